"""What became of the frames of a file: their numbers and times, and which were lost or not shown.

A damaged file gives fewer frames than it held. The frames that come keep the numbers and the times
that they have in the whole file, because every packet that goes into the decoder is noted by its
time: a packet that comes before a frame and gave none is a lost frame. Where packets are missing
from the file itself, a regular clock tells how many.

A file that was not damaged is counted plainly: packets that give no frame are normal there.

If reading is to stop at damage, the first frame that would be listed raises an error instead. A gap
in time alone is no reason then, because it may be a pause that was recorded: something must show
the damage, such as a packet that FFmpeg marks, or a container whose parts do not follow each other.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from statistics import median
from typing import Any

from propagate.io.decode.frame_range import DEFAULT_FPS
from propagate.io.decode.structure import is_whole_between, missing_bytes, transport_is_whole
from propagate.records import Damage

# A transport stream that goes forward by more than this has another clock, as FFmpeg has it.
LONGEST_PAUSE_S = Fraction(10)
# A longer gap in a file of another kind is no damage that can be counted.
LONGEST_LOSS_S = Fraction(3600)
# The clock of MPEG-TS has 33 bits and 90,000 ticks a second.
CLOCK_LENGTH_S = Fraction(2**33, 90000)
# FFmpeg's flag of a container whose clock may jump: MPEG-TS and the like.
TS_DISCONT = 512
# Steps that must be alike before a longer one counts as missing frames.
REGULAR_STEPS = 8
# In these codecs one packet is one picture, and pictures that lack a reference are not shown.
PICTURE_CODECS = ("h264", "hevc", "vvc", "mpeg1video", "mpeg2video")
# These containers have no index: after damage, reading goes on at the next part that makes sense.
WITHOUT_INDEX = ("matroska", "mpegts", "mpeg", "flv", "avi", "ogg", "asf")


MISSING = "missing from the file"
NOT_DECODED = "not decoded"
AFTER_DAMAGE = "refers to a damaged frame"


class DamagedError(ValueError):
    """A frame is lost or concealed, and reading is to stop there."""


@dataclass(slots=True)
class _Packet:
    order: int
    place: int
    reason: str | None = None


@dataclass(slots=True)
class Clock:
    """The time of each frame: that of the file, continued where its clock jumps.

    Attributes:
        step: Seconds between two frames, for frames without a time.
        may_jump: Whether the container is of a kind whose clock jumps. Others keep their times.
        name: Of the source, for notes.
        notes: A line for each jump.
        has_jumped: Whether packets have jumped, but no frame yet.
    """

    step: Fraction
    may_jump: bool
    name: str
    notes: list[str] = field(default_factory=list)
    has_jumped: bool = False
    _offset: Fraction = Fraction(0)
    _last: Fraction | None = None
    _step_now: Fraction | None = None
    _decoded: Fraction | None = None

    def time_of(self, stated: Fraction | None, index: int) -> Fraction:
        """Return the time of the next frame in seconds; it is after the one before it."""
        last = self._last
        if last is None:
            self._last = stated if stated is not None else Fraction(0)
            return self._last
        time = last + self.step if stated is None else stated + self._offset
        if self.may_jump and stated is not None:
            time = self._continued(time, last, index)
            self._step_now = time - last
        self._last = time
        return time

    def take_packet(self, stamp: Fraction | None) -> None:
        """Note when a packet is to be decoded, in seconds. Only that order shows a jump."""
        if stamp is None:
            return
        if self._decoded is not None and not 0 <= stamp - self._decoded <= LONGEST_PAUSE_S:
            self.has_jumped = True
        self._decoded = stamp

    def _continued(self, time: Fraction, last: Fraction, index: int) -> Fraction:
        moved = time - last
        if 0 < moved <= LONGEST_PAUSE_S or not self.has_jumped:
            return time
        self.has_jumped = False
        step = self._step_now or self.step
        if 0 < moved + CLOCK_LENGTH_S <= LONGEST_PAUSE_S:  # it began again at 0
            self._offset += CLOCK_LENGTH_S
            return time + CLOCK_LENGTH_S
        self._offset += last + step - time
        if moved > CLOCK_LENGTH_S / 2:  # FFmpeg takes a way back for the wrap of the clock
            moved -= CLOCK_LENGTH_S
        way = "back" if moved <= 0 else "forward"
        self.notes.append(
            f"{self.name}: its clock jumps {way} by {_length(abs(moved))} at frame {index}; time "
            "goes on from the frame before"
        )
        return last + step


class Accounts:
    """The packets that go into a decoder, and the frames that come out.

    Args:
        container, stream: Of PyAV.
        name: Of the source, for notes.
        skipping: Whether reading goes on after damage, and lists it. If not, the first frame that
            would be listed raises a DamagedError.
        path: The file; None for a source that is none.
        cut_off: Whether the file is known to end before its index does.

    Attributes:
        clock: The times of the frames.
        damage: What was lost or concealed so far.
        skipping: As the argument.
        has_ended: Set this when the last packet was read; frames that the decoder held back follow.
    """

    def __init__(
        self,
        container: Any,
        stream: Any,
        name: str,
        *,
        skipping: bool,
        cut_off: bool,
        path: str | None = None,
    ) -> None:
        """Start before the first packet."""
        kinds = container.format.name.split(",")
        self.clock = Clock(
            1 / (stream.average_rate or DEFAULT_FPS),
            bool(int(container.format.flags) & TS_DISCONT),
            name,
        )
        self.damage: tuple[Damage, ...] = ()
        self.skipping = skipping
        self.has_ended = False
        self._name, self._stream = name, stream
        self._path, self._kind = path or "", kinds[0]
        self._ends_early = cut_off or missing_bytes(self._path, self._kind) > 0
        self._is_damaged = cut_off and skipping
        self._guesses = cut_off or any(kind in WITHOUT_INDEX for kind in kinds)
        self._counts = stream.codec_context.name in PICTURE_CODECS
        self._waiting: dict[int, _Packet] = {}  # by time
        self._failed = deque[str]()  # without a time
        self._order = 0
        # An AVI has no times. Its index says which packet lies where in the file.
        self._places: dict[int, int] = {}
        if kinds == ["avi"]:
            self._places = {entry.pos + 8: entry.timestamp for entry in stream.index_entries}
        self._broken: int | None = None  # order of the last damaged packet
        self._keys: deque[tuple[int, int]] = deque(maxlen=64)  # order and time
        self._steps: deque[Fraction] = deque(maxlen=4 * REGULAR_STEPS)
        self._next = 0
        self._last_stamp: int | None = None
        self._last_time: Fraction | None = None
        self._last_order = 0
        # Positions in the file, in bytes: of the packets before, and of the one farthest read.
        self._last_place = self._place_before = self._read_up_to = 0
        self._hidden = 0

    @property
    def is_damaged(self) -> bool:
        """Whether something showed that the file is damaged."""
        return self._is_damaged

    @property
    def notes(self) -> tuple[str, ...]:
        """Return lines for a person: where the clock jumped, and how many frames were not shown."""
        if not self._hidden:
            return tuple(self.clock.notes)
        one = self._hidden == 1
        count = f"{self._hidden} {'frame was' if one else 'frames were'} not shown"
        refers = "it refers" if one else "they refer"
        line = f"{self._name}: {count}: {refers} to frames that are not in the file"
        return (*self.clock.notes, line)

    def take_packet(self, packet: Any) -> None:
        """Note a packet that goes into the decoder."""
        self._order += 1
        counted_on = self._places.get(packet.pos)
        if counted_on is not None and (self.skipping or packet.dts != counted_on):
            # After damage FFmpeg counts on; the index knows better.
            packet.pts = packet.dts = counted_on
        stamp = _stamp(packet)
        if self.clock.may_jump and packet.dts is not None:
            self.clock.take_packet(packet.dts * packet.time_base)
        place = packet.pos or 0
        if packet.is_corrupt and not (
            self._kind == "mpegts" and transport_is_whole(self._path, self._place_before)
        ):
            self._is_damaged = True
            self._broken = self._order
        self._place_before = place
        self._read_up_to = max(self._read_up_to, place)
        if packet.is_keyframe and stamp is not None:
            self._keys.append((self._order, stamp))
        if stamp is not None and not packet.is_discard and _is_shown(packet, self._stream):
            self._waiting[stamp] = _Packet(self._order, place)

    def fail(self, packet: Any, reason: str) -> None:
        """Note that the decoder refused the packet that was taken last."""
        stamp = _stamp(packet)
        self._is_damaged = True
        self._broken = self._order
        if stamp in self._waiting:
            self._waiting[stamp].reason = reason
        elif stamp is None:
            self._failed.append(reason)

    def take_frame(self, picture: Any) -> tuple[int, Fraction] | None:
        """Return the number of a frame that came out, and its time in seconds.

        None: it comes too late. A decoder that lost its place gives a frame after later ones.

        Raises:
            DamagedError: It, or a frame before it, is damaged, and reading is to stop there.
        """
        stamp: int | None = picture.pts
        stated = None if stamp is None else stamp * picture.time_base
        packet = None if stamp is None else self._waiting.pop(stamp, None)
        if picture.is_corrupt:
            self._is_damaged = True
        before = self._last_time
        goes_back = stated is not None and before is not None and stated <= before
        if goes_back and self._is_damaged and not self.clock.has_jumped:
            return None
        if packet and goes_back:
            # The clock went back. What waits from before cannot be told from what comes.
            later = (t for t, other in self._waiting.items() if other.order > packet.order)
            self._waiting = {t: self._waiting[t] for t in later}
        lost = self._lost_before(stamp, stated, packet)
        if packet and MISSING in lost:
            self._broken = max(self._broken or 0, min(self._last_order, packet.order - 1))
        self._lose(lost)
        self._is_damaged |= bool(lost)
        index = self._next
        self._next += 1
        if picture.is_corrupt or self._follows_damage(packet, stamp, picture):
            reason = "the decoder filled in parts" if picture.is_corrupt else AFTER_DAMAGE
            self._add(Damage(index, index, "concealed", reason))
        if packet and picture.is_corrupt:
            self._broken = max(self._broken or 0, packet.order)
        time = self.clock.time_of(stated, index)
        for _ in lost if stated is None else ():
            time = self.clock.time_of(None, index)
        self._last_stamp, self._last_time = stamp, stated
        if packet:
            self._last_order, self._last_place = packet.order, packet.place
        return index, time

    def end(self, count: int | None, end_s: Fraction | None, reason: str) -> None:
        """Note the end of the file: what was still waiting is lost, and what should follow.

        Args:
            count: How many frames the file should hold. None: not known.
            end_s: Where its last frame should end, in seconds; only a regular clock turns that into
                a number of frames. None: not known.
            reason: Why nothing follows.

        Raises:
            DamagedError: A frame is lost, and reading is to stop there.
        """
        lost = self._overtaken(None) if self._is_damaged else []
        lost += list(self._failed)
        usual = self._usual_step()
        if count is None and end_s is not None and usual and self._last_time is not None:
            count = self._next + round((end_s - self._last_time) / usual) - 1
        if count is not None:
            lost += [reason] * (count - self._next - len(lost))
        self._lose(lost)

    def _lost_before(
        self, stamp: int | None, stated: Fraction | None, packet: _Packet | None
    ) -> list[str]:
        """Return the reasons of the frames that were lost between the last frame and this one."""
        if stamp is None or stated is None:
            lost = list(self._failed)
            self._failed.clear()
            return lost
        lost = self._overtaken(stamp)
        step = None if self._last_time is None else stated - self._last_time
        usual = self._usual_step()
        steps = step / usual if usual and step is not None else None
        is_gap = steps is not None and steps > Fraction(3, 2)
        longest = LONGEST_PAUSE_S if self.clock.may_jump else LONGEST_LOSS_S
        is_gap_to_fill = is_gap and self._guesses and step is not None and step <= longest
        if is_gap_to_fill and not self.skipping and not self._is_damaged:
            self._is_damaged = self._is_broken_before(packet)
        fills = is_gap_to_fill and (self.skipping or self._is_damaged)
        if not (self._is_damaged or (is_gap and self._guesses and self.skipping)):
            if self._counts and (step is None or is_gap):
                self._hidden += len(lost)
            lost = []
        if step is not None and steps is not None:
            skipped = max(0, round(steps) - 1)
            lost = lost[:skipped]  # the second field of a picture is a packet too
            if fills and abs(steps - round(steps)) < Fraction(1, 5):
                lost += [MISSING] * (skipped - len(lost))
        if step is not None and not lost and step > 0:
            self._steps.append(step)
        return lost

    def is_broken_at_end(self, size: int) -> bool:
        """Say whether a file of some bytes goes on after the last packet, but makes no sense."""
        return not is_whole_between(self._path, self._kind, self._read_up_to, size - 1)

    def _is_broken_before(self, packet: _Packet | None) -> bool:
        """Say whether the file shows that a gap in time before a packet is damage, not a pause."""
        if self._ends_early and self.has_ended:
            return True
        start = min(self._last_place, packet.place if packet else self._last_place)
        return not is_whole_between(self._path, self._kind, start, self._read_up_to)

    def _overtaken(self, stamp: int | None) -> list[str]:
        """Remove the packets before a time, which gave no frame; return why, in order of time."""
        passed = sorted(t for t in self._waiting if stamp is None or t < stamp)
        if self._last_stamp is not None and stamp is not None and stamp < self._last_stamp:
            return []  # the clock went back
        if self.clock.may_jump and passed and stamp is not None:
            limit = LONGEST_PAUSE_S / self._stream.time_base
            passed = [t for t in passed if stamp - t < limit]
        return [self._waiting.pop(t).reason or NOT_DECODED for t in passed]

    def _usual_step(self) -> Fraction | None:
        """Return the step of a regular clock, None if it is not regular or not known yet."""
        if not self._steps:
            return None
        # So early, a clock counts as regular only if it keeps the rate that the file states.
        early = len(self._steps) < REGULAR_STEPS
        usual = self.clock.step if early else median(self._steps)
        slack = max(usual / 10, Fraction(11, 10000))  # Matroska rounds to milliseconds
        return usual if all(abs(step - usual) <= slack for step in self._steps) else None

    def _follows_damage(self, packet: _Packet | None, stamp: int | None, picture: Any) -> bool:
        """Say whether a frame may show traces: no keyframe came between the damage and it."""
        if self._broken is None or packet is None or stamp is None or picture.key_frame:
            return False
        fresh = any(
            self._broken < order <= packet.order and key <= stamp for order, key in self._keys
        )
        return packet.order > self._broken and not fresh

    def _lose(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            self._add(Damage(self._next, self._next, "lost", reason))
            self._next += 1

    def _add(self, damage: Damage) -> None:
        """Join it to the last entry, if it continues that. To stop there, raise."""
        if not self.skipping:
            raise DamagedError(f"frame {damage.first} is {damage.kind}: {damage.reason}")
        if self.damage:
            last = self.damage[-1]
            if (last.kind, last.reason, last.last + 1) == (
                damage.kind,
                damage.reason,
                damage.first,
            ):
                self.damage = (*self.damage[:-1], replace(last, last=damage.last))
                return
        self.damage = (*self.damage, damage)


def _stamp(packet: Any) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


def _is_shown(packet: Any, stream: Any) -> bool:
    """Say whether a packet holds a picture to show. One bit of VP8 says that it does not."""
    if stream.codec_context.name == "vp8" and packet.size:
        return bool(memoryview(packet)[0] >> 4 & 1)
    return packet.size > 0


def _length(seconds: Fraction) -> str:
    """Write a length of time for a person: "0.24 s", "3.0 h"."""
    if seconds < 120:
        return f"{float(seconds):.2f} s"
    return f"{float(seconds / 3600):.1f} h" if seconds > 5400 else f"{float(seconds / 60):.1f} min"
