"""The configuration of a run: frozen, checked when made, saved beside every result."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from propagate.matchers import MATCHERS, Matcher, MatcherName

# The size at which DAVIS and its label-propagation protocols work.
SHORT_SIDE_PX = 480
# The prompt that a U-Net gets for each named class.
TEMPLATE = "a photo of a {name}"


def check_template(template: str) -> None:
    """Refuse a prompt around class names that has no place, or several, for the name.

    Raises:
        ValueError: It has.
    """
    if template.count("{name}") != 1:
        raise ValueError(f"template: a text with {{name}} in it once, not {template!r}")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides a mask, besides the model's weights.

    Attributes:
        matcher: See `Matcher`; `MATCHERS` holds the named ones.
        short_side_px: Frames are resized to about this short side before features are read.
        max_aspect: The long side is at most this many short sides, so that a frame of one by
            thousands of pixels costs no more than an ordinary one.
        recipe: What is read out of the model, a key of `RECIPES`; None: what the model's own folder
            says, else "default".
        class_names: Object id -> name of its class ("dog"), as far as known. PDM's semantic map
            then helps to find an object that was lost.
        template: The prompt around class names, with {name} in their place.
    """

    matcher: Matcher = field(default_factory=lambda: MATCHERS["default"])
    short_side_px: int = SHORT_SIDE_PX
    max_aspect: float = 4.0
    recipe: str | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        check_template(self.template)
        if not isinstance(self.matcher, Matcher):
            raise TypeError(
                f"matcher must be a Matcher, not {self.matcher!r}; Config.named takes a name, and "
                "MATCHERS holds the named ones"
            )
        if self.short_side_px < 16:
            raise ValueError(f"short_side_px must be at least 16, not {self.short_side_px}")
        if self.max_aspect < 1:
            raise ValueError(f"max_aspect must be at least 1, not {self.max_aspect}")
        if any(not 1 <= object_id <= 254 for object_id in self.class_names):
            raise ValueError(f"class_names: of objects 1 to 254, not {dict(self.class_names)}")
        if self.class_names and self.matcher.reappearance is None:
            raise ValueError(
                "class_names: only with a matcher that finds objects again, as default"
            )

    @classmethod
    def named(cls, matcher: MatcherName, **settings: Any) -> "Config":
        """Make the configuration with the matcher of that name.

        Args:
            matcher: A key of `MATCHERS`.
            settings: Other fields.

        Raises:
            ValueError: No matcher has that name (the message lists the names), or a setting is out
                of range.
        """
        if matcher not in MATCHERS:
            raise ValueError(f"no matcher is named {matcher!r}; there are {', '.join(MATCHERS)}")
        return cls(matcher=MATCHERS[matcher], **settings)

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The class names, each once, in the order in which they appear."""
        return tuple(dict.fromkeys(self.class_names.values()))

    def to_json(self) -> dict[str, Any]:
        """Give the settings as plain values, as they are after a way through JSON."""
        return json.loads(json.dumps(asdict(self)))
