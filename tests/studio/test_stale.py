"""Which masks references change: worked out by hand."""

import pytest

from propagate.io.write.kept_frames import ranges_of
from propagate.studio.references import Reference
from propagate.studio.stale import dependence_of, stale_frames

BOTH, ONE, NONE = (1, 2), (1,), ()


@pytest.mark.parametrize(
    ("before", "now", "named", "expected"),
    [
        # Nothing changed.
        ({0: "a"}, {0: "a"}, {0: BOTH}, []),
        # A correction acts forwards, to the end.
        ({0: "a"}, {0: "a", 40: "b"}, {0: BOTH, 40: ONE}, [(40, 99)]),
        # It ends before the next reference that names all objects.
        ({0: "a", 70: "c"}, {0: "a", 40: "b", 70: "c"}, {0: BOTH, 40: ONE, 70: BOTH}, [(40, 69)]),
        # One that names some only does not end it.
        ({0: "a", 70: "c"}, {0: "a", 40: "b", 70: "c"}, {0: BOTH, 40: ONE, 70: ONE}, [(40, 99)]),
        # Nor does one that says that nothing is visible.
        ({0: "a", 70: "c"}, {0: "a", 40: "b", 70: "c"}, {0: BOTH, 40: ONE, 70: NONE}, [(40, 99)]),
        # An object that nobody has named before is followed backwards too.
        ({0: "a"}, {0: "a", 40: "b"}, {0: ONE, 40: BOTH}, [(0, 99)]),
        # A reference that is gone.
        ({0: "a", 40: "b"}, {0: "a"}, {0: BOTH}, [(40, 99)]),
        # The first reference has changed: it is remembered for ever.
        ({0: "a", 50: "b"}, {0: "x", 50: "b"}, {0: BOTH, 50: BOTH}, [(0, 99)]),
        # Two changes with an unchanged one between.
        (
            {0: "a", 50: "b"},
            {0: "a", 20: "x", 50: "b", 80: "y"},
            {0: ONE, 20: ONE, 50: ONE, 80: ONE},
            [(20, 49), (80, 99)],
        ),
        # All are gone.
        ({0: "a"}, {}, {}, [(0, 99)]),
    ],
)
def test_the_ranges_that_change(before, now, named, expected):
    # Of a reference that is gone, the table does not say which objects it named: all of them.
    old, new = (
        dependence_of({f: Reference(named.get(f, BOTH), checksum) for f, checksum in given.items()})
        for given in (before, now)
    )
    assert ranges_of(stale_frames(old, new, range(100))) == expected


def test_ranges_are_joined_where_they_touch():
    assert ranges_of([*range(5, 10), *range(3), 3, 10, 11, 12]) == [(0, 3), (5, 12)]
    assert ranges_of({4, 1, 2, 9}) == [(1, 2), (4, 4), (9, 9)]
    assert ranges_of(()) == []
