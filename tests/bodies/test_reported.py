"""Tests of the conversion of reports: each rule, and reports made to break it."""

import functools
import gc
import json
import sys
import threading
import tracemalloc
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, TypeAlias
from unittest.mock import Mock
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.bodies import reported
from pulp_hooks.bodies.reported import MAX_DEPTH, MAX_VALUES, reported_value

AsJson: TypeAlias = Callable[[object], str]


class Colour(Enum):
    """Values of several types, one of them a container."""

    RED = "red"
    PAIR = (1, b"\xff")
    MANY = tuple(range(1000))


class Level(IntEnum):
    """Numbers with names."""

    HIGH = 3


class Word(StrEnum):
    """Words with names."""

    DONE = "done"


class Switch(Flag):
    """Flags that can be combined."""

    A = 1
    B = 2


class Nevra(NamedTuple):
    """A package's name, as importers store it."""

    name: str
    epoch: int


@dataclass
class Package:
    """A package, as importers store it."""

    name: str
    built: date
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two values."""

    left: object
    right: object = None


class Text(str):
    """Text with a class of its own."""

    __slots__ = ()


PLAIN: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    2**1024 - 1,
    1 - 2**1024,
    0.5,
    -0.0,
    1e308,
    "",
    "né 😀\x00\u2028",
    [],
    {},
]
DAY, MOMENT = date(2012, 7, 6), datetime(2012, 7, 6, 15, 49, 11, 5, tzinfo=timezone(timedelta(hours=2)))
ID = UUID("4ff7413a-8a90-5b77-7d00-00724ff7413a")

RULES: list[tuple[object, object]] = [
    *((value, value) for value in PLAIN),
    *((float(name), None) for name in ("nan", "inf", "-inf")),
    *((Decimal(name), None) for name in ("NaN", "sNaN", "-Infinity")),
    (Decimal("1.10"), "1.10"),
    (Decimal("1E+400"), "1E+400"),
    (Text("text"), "text"),
    (Level.HIGH, 3),
    (Word.DONE, "done"),
    (Colour.RED, "red"),
    (Colour.PAIR, [1, {"base64": "/w=="}]),
    (Switch.A | Switch.B, 3),
    ((1, (2,)), [1, [2]]),
    (Nevra("walrus", 0), ["walrus", 0]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a", 1, None}), ["a", "b", 1, None]),
    ({(2, 1), (1, 2)}, [[1, 2], [2, 1]]),
    ({"b": 1, "a": 2}.keys(), ["a", "b"]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (ChainMap({"a": 1}, {"a": 2, "b": 3}), {"a": 1, "b": 3}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (UserDict({"a": 1}), {"a": 1}),
    (DAY, "2012-07-06"),
    (MOMENT, "2012-07-06T15:49:11.000005+02:00"),
    (datetime(2012, 7, 6), "2012-07-06T00:00:00"),  # noqa: DTZ001 - in a report nothing is refused
    (time(15, 49, 11), "15:49:11"),
    (time(15, 49, tzinfo=UTC), "15:49:00+00:00"),
    (timedelta(minutes=1, milliseconds=-500), 59.5),
    (ID, str(ID)),
    (Path("repodata/repomd.xml"), "repodata/repomd.xml"),
    (PureWindowsPath("C:\\repodata"), "C:\\repodata"),
    (Path("caf\udce9"), "caf\ufffd"),
    (b"caf\xc3\xa9", "café"),
    (b"caf\xe9", {"base64": "Y2Fm6Q=="}),
    (bytearray(b"x"), "x"),
    (memoryview(b"axbx")[1::2], "xx"),
    (Package("walrus", DAY, [Path("a")]), {"name": "walrus", "built": "2012-07-06", "files": ["a"]}),
    ("\ud800", "\ufffd"),
    ("a\udc80b\ud800", "a\ufffdb\ufffd"),
    ("\udcff" * 3, "\ufffd" * 3),
    ("\ud83d\ude00\ufeff", "😀\ufeff"),
    ("\ufeffcaf\udce9", "\ufeffcaf\ufffd"),
]

OTHERS = [
    Fraction(1, 2),
    1 + 2j,
    range(3),
    ...,
    NotImplemented,
    Package,
    len,
    deque([1]),
    array("i", [1]),
    {"a": 1}.values(),
    SimpleNamespace(a=1),
    ValueError("no such host"),
    sys,
]

KEYS: list[tuple[object, str]] = [
    ("a", "a"),
    (Text("a"), "a"),
    (None, "null"),
    (True, "true"),
    (1, "1"),
    (1.5, "1.5"),
    (float("nan"), "null"),
    (Decimal("1.10"), "1.10"),
    (Colour.RED, "red"),
    (Level.HIGH, "3"),
    (DAY, "2012-07-06"),
    (ID, str(ID)),
    (Path("a/b"), "a/b"),
    (b"a", "a"),
    (b"\xff", "b'\\xff'"),
    ((1, "a"), "(1, 'a')"),
    ("caf\udce9", "caf\ufffd"),
    ("", ""),
]


@pytest.mark.parametrize(("value", "converted"), RULES, ids=lambda value: type(value).__name__)
def test_value_is_converted_by_its_rule(value: object, converted: object, as_json: AsJson) -> None:
    """Each rule holds for a value alone, in an array and in an object, and for an already converted value."""
    text = as_json(converted)
    assert as_json(reported_value(value)) == text
    assert as_json(reported_value([value])) == f"[{text}]"
    assert as_json(reported_value({"a": value})) == f'{{"a": {text}}}'
    assert as_json(reported_value(reported_value(value))) == text


REPORTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inside: st.one_of(st.lists(inside, max_size=40), st.dictionaries(st.text(), inside, max_size=40)),
)


@given(REPORTS)
def test_fast_path_returns_the_same_as_the_full_conversion(value: object) -> None:
    """The fast path for small plain reports returns the same as the full conversion."""
    converted = reported._Conversion(MAX_VALUES).convert(value, MAX_DEPTH)
    assert json.dumps(reported_value(value)) == json.dumps(converted)


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_any_other_value_becomes_its_marked_repr(value: object, as_json: AsJson) -> None:
    """A value without a JSON form becomes its `repr`, marked as such."""
    converted = reported_value(value)
    assert converted == {"repr": repr(value)}
    assert as_json(reported_value(converted)) == as_json(converted)


@pytest.mark.parametrize(("key", "name"), KEYS, ids=lambda value: type(value).__name__)
def test_key_becomes_text_by_its_rule(key: object, name: str) -> None:
    """Keys are converted by the rules of values, then written as in JSON."""
    assert reported_value({key: 0}) == {name: 0}


def test_duplicate_key_gets_a_suffix() -> None:
    """Keys that become the same text stay distinct and in order."""
    assert reported_value({1: "a", "1": "b", "1_": "c", Decimal(1_0) / 10: "d"}) == {"1": "d", "1_": "b", "1__": "c"}
    assert reported_value({None: 1, "null": 2, float("nan"): 3}) == {"null": 1, "null_": 2, "null__": 3}


def test_many_duplicate_keys_stay_short() -> None:
    """A thousand keys that become the same text stay short."""
    converted = reported_value({float("nan"): number for number in range(1000)})
    assert isinstance(converted, dict)
    assert sorted(converted.values(), key=str) == sorted(range(1000), key=str)
    assert max(map(len, converted)) < 50


@pytest.mark.parametrize("value", [Colour.MANY, {tuple(range(1000)): "b"}, {Pair(tuple(range(1000))): "b"}])
def test_long_member_or_key_does_not_affect_the_rest_of_the_report(value: object) -> None:
    """A value or key with too many parts does not affect the values next to it."""
    converted = reported_value({"kept": "a", "long": value})
    assert isinstance(converted, dict)
    assert converted["kept"] == "a"


def test_generator_is_not_consumed() -> None:
    """A generator is not consumed, and is shown as a generator."""
    numbers = (number for number in range(3))
    converted = reported_value({"numbers": numbers})
    assert "generator" in str(converted)
    assert list(numbers) == [0, 1, 2]


@pytest.mark.parametrize(
    "number", [10**4999, -(10**4999), 2**1024, 2**10_000_000], ids=["5000", "-5000", "1024", "10M"]
)
@pytest.mark.parametrize("wrap", [lambda number: number, lambda number: {number}, Pair, lambda number: {number: 1}])
def test_huge_integer_becomes_a_short_marked_repr(number: int, wrap: Callable[[int], object], as_json: AsJson) -> None:
    """An integer with more digits than Python formats becomes a short marked `repr`, at any place."""
    assert len(as_json(reported_value(wrap(number)))) < 300
    assert ("-0x" if number < 0 else "0x") in str(reported_value(number))


def test_equal_sets_become_equal_arrays() -> None:
    """Equal sets become equal arrays, whatever their iteration order."""
    forwards, backwards = {8, 0}, {0, 8}
    assert list(forwards) != list(backwards)
    assert reported_value(forwards) == reported_value(backwards) == [0, 8]


def nested(levels: int, wrap: Callable[[Any], object], inside: object = None) -> object:
    """Return a value nested in this many containers."""
    return functools.reduce(lambda value, _: wrap(value), range(levels), inside)


Node = namedtuple("Node", "child")  # noqa: PYI024 - its type is of no interest
WRAPS: dict[str, Callable[[Any], object]] = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"a": value},
    "namedtuple": Node,
    "dataclass": Pair,
    "OrderedDict": lambda value: OrderedDict(a=value),
    "deque": lambda value: deque([value]),
    "repr": lambda value: {"repr": value},
    "base64": lambda value: {"base64": value},
}


def depth_of(value: object) -> int:
    """Return the nesting depth of containers."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(depth_of, children), default=0)


def test_containers_are_kept_down_to_the_maximum_depth() -> None:
    """Containers up to the maximum depth are kept; one level more becomes a marked `repr`."""
    deepest = nested(MAX_DEPTH, WRAPS["list"], "bottom")
    assert reported_value(deepest) == deepest
    assert reported_value(nested(MAX_DEPTH, WRAPS["list"], ["x"])) == nested(
        MAX_DEPTH, WRAPS["list"], {"repr": "['x']"}
    )


@pytest.mark.parametrize(
    ("value", "converted"),
    [(value, converted) for value, converted in RULES if not isinstance(converted, list | dict)],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_converted_at_any_depth(value: object, converted: object) -> None:
    """Depth counts containers only; other values are converted at any depth."""
    assert reported_value(nested(MAX_DEPTH, WRAPS["list"], value)) == nested(MAX_DEPTH, WRAPS["list"], converted)


@pytest.mark.parametrize("levels", [0, MAX_DEPTH])
@pytest.mark.parametrize("wrap", WRAPS)
def test_a_hundred_thousand_levels_are_cut(wrap: str, levels: int, as_json: AsJson) -> None:
    """Nesting without end is cut without an error, wherever it begins, and the result is small."""
    converted = reported_value(nested(levels, WRAPS["list"], nested(100_000, WRAPS[wrap])))
    assert depth_of(converted) <= MAX_DEPTH + 1
    assert len(as_json(converted)) < 5000


@pytest.mark.parametrize(
    "inside",
    [[1], {"a": 1}, b"\xff", 2**1024, object(), Pair(1), Colour.PAIR, {1}],
    ids=lambda value: type(value).__name__,
)
def test_converted_report_does_not_change_when_converted_again(inside: object, as_json: AsJson) -> None:
    """Converting a truncated report again, as for an event that was read back, does not change it."""
    for levels in range(MAX_DEPTH - 2, MAX_DEPTH + 2):
        once = reported_value(nested(levels, WRAPS["list"], inside))
        assert as_json(reported_value(once)) == as_json(once)


@dataclass(eq=False)
class Loop:
    """A value that contains itself."""

    own: object = None

    def __post_init__(self) -> None:
        self.own = self


def loops() -> Iterator[Any]:
    """Return containers that contain themselves."""
    array: list[object] = [1]
    array.append(array)
    yield pytest.param(array, [1, {"repr": "[1, [...]]"}], id="list")
    mapping: dict[str, object] = {"a": 1}
    mapping["own"] = (mapping,)
    yield pytest.param(mapping, {"a": 1, "own": [{"repr": "{'a': 1, 'own': ({...},)}"}]}, id="dict")
    yield pytest.param(Loop(), {"own": {"repr": "Loop(own=...)"}}, id="dataclass")


@pytest.mark.parametrize(("value", "converted"), list(loops()))
def test_cycle_ends_in_a_marked_repr(
    value: object, converted: dict[str, object] | list[object], as_json: AsJson
) -> None:
    """A container inside itself is converted once, and its second occurrence is marked."""
    text = as_json(reported_value(value))
    assert depth_of(json.loads(text)) == depth_of(converted)
    assert text.count('"repr"') == 1
    assert as_json(reported_value(json.loads(text))) == text


def test_same_container_in_two_places_is_not_a_cycle() -> None:
    """A container that appears in two places is converted to two containers."""
    shared = ["a"]
    converted = reported_value([shared, {"b": shared}])
    assert converted == [["a"], {"b": ["a"]}]
    assert converted[0] is not converted[1]["b"]  # type: ignore[index, call-overload]  # as the line above shows


class Limited:
    """Counts accesses, and raises when there are too many."""

    def __init__(self, most: int) -> None:
        self.left = most

    def __call__(self) -> None:
        """Count the access."""
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("asked too often")


def test_enumeration_member_that_contains_itself_ends() -> None:
    """A cycle through the members of an enumeration ends, even if it branches."""
    asked = Limited(10_000)

    class Counted(list[object]):
        def __iter__(self) -> Iterator[object]:
            asked()
            return super().__iter__()

    class Branching(Enum):
        LOOP = Counted()

    Branching.LOOP.value.extend([Branching.LOOP, Branching.LOOP])
    assert depth_of(reported_value(Branching.LOOP)) <= MAX_DEPTH + 1
    assert asked.left >= 0


def test_2_to_the_50_leaves_are_truncated() -> None:
    """Lists that contain each other twice, fifty levels deep, are truncated at the maximum number of values."""
    converted = reported_value(nested(50, lambda value: [value, value]))
    assert isinstance(converted, dict)
    assert converted.keys() == {"truncated", "bytes", "start"}
    assert converted["truncated"] is True
    assert len(str(converted["start"])) < 2000


@pytest.mark.parametrize(
    "double",
    [
        lambda v: Pair(v, v),
        lambda v: Node((v, v)),
        lambda v: defaultdict(list, a=v, b=v),
        lambda v: deque([v, v]),
        lambda v: SimpleNamespace(a=v, b=v),
        lambda v: {"a": v, "b": v}.values(),
        lambda v: ValueError(v, v),
    ],
    ids=["dataclass", "namedtuple", "defaultdict", "deque", "namespace", "values", "exception"],
)
def test_repr_of_2_to_the_50_leaves_is_not_called(double: Callable[[Any], object]) -> None:
    """A marked `repr` is short and cheap: the `repr` of a whole family of objects is never called."""
    asked = Limited(10_000)

    class Leaf(int):
        def __repr__(self) -> str:
            asked()
            return "1"

    assert depth_of(reported_value(nested(MAX_DEPTH, WRAPS["list"], nested(50, double, Leaf(1))))) <= MAX_DEPTH + 1
    assert asked.left >= 0


def test_million_keys_are_all_converted() -> None:
    """A report with the maximum number of values is converted in full."""
    report = dict.fromkeys(map(str, range(10**6)))
    assert reported_value(report) == report


def test_report_with_too_many_values_is_truncated() -> None:
    """A report with more values than the maximum, itself included, is truncated and marked."""
    assert reported_value([0] * MAX_VALUES) == {"truncated": True, "bytes": None, "start": "[0, 0, 0, 0, 0, 0, ...]"}


def test_endless_mapping_is_truncated() -> None:
    """A host's mapping that yields items without end is not read forever."""
    asked = Limited(1001)  # one value beyond the maximum is read to detect the excess

    class Endless(UserDict[str, int]):
        def items(self) -> Any:  # noqa: ANN401 - as the base class has it
            while True:
                asked()
                yield "key", 1

    assert reported_value({"kept": 1, "endless": Endless()}, 1000)
    assert asked.left >= 0


@pytest.mark.parametrize(
    "text",
    ["x" * 50_000_000, "é" * 25_000_000, "😀" * 12_500_000, "x" * 49_999_996 + "😀", b"x" * 50_000_000],
    ids=["ascii", "latin", "emoji", "one emoji", "bytes"],
)
def test_memory_for_a_long_text_is_a_few_times_its_size(text: object) -> None:
    """Converting 50 MB of text takes less than four times as much memory."""
    tracemalloc.start()
    try:
        converted = reported_value([text])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(converted, list)
    assert peak < 4 * 50_000_000


RAISED = [RuntimeError, RecursionError, MemoryError, StopIteration, SystemExit, GeneratorExit]


def hostile(touch: Callable[..., Any]) -> dict[str, object]:
    """Return objects that call a function on any access, by the kind of access."""

    def make(name: str, *bases: type, **members: object) -> Any:  # noqa: ANN401 - an object of some class
        return type(name, bases, {"__repr__": touch, "__str__": touch, **members})()

    broken = make_dataclass("Broken", ["name"], namespace={"__repr__": touch, "__getattribute__": touch})
    return {
        "repr": make("Repr"),
        "everything": make("Everything", __getattribute__=touch, __hash__=touch, __eq__=touch, __bool__=touch),
        "class": make("Class", __class__=property(touch)),
        "items": make("Items", UserDict, items=touch),
        "keys": make("Keys", UserDict, keys=touch, __iter__=touch, __len__=touch),
        "list": make("Elements", list, __iter__=touch, __len__=touch),
        "set": make("Members", set, __iter__=touch, __len__=touch),
        "text": make("Text", str, isascii=touch, encode=touch),
        "number": make("Number", int, __int__=touch, __index__=touch, bit_length=touch),
        "fraction": make("Fraction", float, __float__=touch),
        "dataclass": broken("x"),
        "zone": datetime(2012, 7, 6, tzinfo=make("Zone", tzinfo, utcoffset=touch)),
    }


TOUCHES = list(hostile(lambda *_: "calm"))


@contextmanager
def armed(error: type[BaseException]) -> Iterator[dict[str, object]]:
    """Return objects that raise an exception on any access, but not after the test, because pytest may show them."""
    raises = True

    def touch(*_: object) -> str:
        if raises:
            raise error
        return "calm"

    try:
        yield hostile(touch)
    finally:
        raises = False


@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("touch", TOUCHES)
def test_object_that_raises_does_not_affect_the_rest(error: type[BaseException], touch: str, as_json: AsJson) -> None:
    """An object that raises on access is replaced, and the rest of the report is kept."""
    with armed(error) as objects:
        converted = reported_value({"before": 1, "hostile": objects[touch], "after": 2})
    assert isinstance(converted, dict)
    assert (list(converted), converted["before"], converted["after"]) == (["before", "hostile", "after"], 1, 2)
    assert as_json(converted)


@pytest.mark.parametrize("error", RAISED)
def test_key_that_raises_does_not_affect_the_rest(error: type[BaseException], as_json: AsJson) -> None:
    """A key that cannot be shown keeps its value, and the other keys are kept."""
    with armed(error) as objects:
        converted = reported_value({"before": 1, objects["repr"]: 2, "after": 3})
    assert isinstance(converted, dict)
    assert list(converted.values()) == [1, 2, 3]
    assert as_json(converted)


@pytest.mark.parametrize("touch", ["repr", "class", "items", "list", "dataclass"])
def test_ctrl_c_is_not_swallowed(touch: str) -> None:
    """`KeyboardInterrupt` propagates whatever is being converted."""
    with armed(KeyboardInterrupt) as objects, pytest.raises(KeyboardInterrupt):
        reported_value([objects[touch]])


def liars() -> dict[str, object]:
    """Return objects of built-in types whose methods return wrong values."""

    def answer(base: type, *given: object, **answers: object) -> object:
        methods = {name: lambda *_, value=value: value for name, value in answers.items()}
        return type("Liar", (base,), methods)(*given)

    return {
        "text": answer(str, "x", __str__="\ud800"),
        "ascii": answer(str, "\ud800", isascii=True),
        "encoded": answer(str, "é", encode=b""),
        "short": answer(int, 10**5000, bit_length=1),
        "long": answer(int, 7, __int__=10**5000),
        "infinite": answer(float, 1.0, __float__=float("inf")),
        "undated": answer(date, 2012, 7, 6, isoformat=object()),
        "unpathed": answer(type(Path()), "x", __str__="\ud800"),
        "unnumbered": answer(UUID, "0" * 32, __str__="\ud800"),
        "finite": answer(Decimal, "NaN", is_finite=True, __str__="\ud800"),
        "paired": answer(UserDict, items=[(1, 2, 3)]),
        "itemless": answer(UserDict, items=None),
        "a mock of dict": Mock(spec=dict),
        "a mock of str": Mock(spec=str),
    }


@pytest.mark.parametrize("name", liars())
def test_object_with_overridden_methods_becomes_json(name: str, as_json: AsJson) -> None:
    """Objects of built-in types with overridden methods still become valid JSON."""
    assert as_json(reported_value({"before": 1, "liar": liars()[name]})).startswith('{"before": 1, "liar": ')


def test_object_with_an_unnamable_class_does_not_affect_the_rest(as_json: AsJson) -> None:
    """An object is replaced even if its class cannot be named."""

    class Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]  # wrong on purpose
            raise RuntimeError

    class Thing(metaclass=Nameless):
        pass

    converted = reported_value({"before": 1, "thing": Thing()})
    assert isinstance(converted, dict)
    assert list(converted) == ["before", "thing"]
    assert as_json(converted)


def test_released_memoryview_becomes_a_marked_repr() -> None:
    """The bytes of a released memoryview become a marked `repr`."""
    view = memoryview(b"x")
    view.release()
    assert "memory" in str(reported_value(view))


def test_report_that_changes_during_its_conversion_is_converted(as_json: AsJson) -> None:
    """A report that another thread changes during the conversion raises nothing."""
    report: dict[str, Any] = {"files": {}, "errors": [], "names": set()}
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number = (number + 1) % 500
            report["files"].pop(str(number), None)
            report["files"][str(number + 250)] = {"size": number}
            report["errors"][number:] = [number] * (number % 7)
            report["names"] ^= {number}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            converted = reported_value(report)
            assert isinstance(converted, dict)
            assert [type(part) for part in converted.values()] == [dict, list, list]
            assert as_json(converted)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)


NAMES = [str(number) for number in range(10_000)]


@pytest.mark.parametrize(
    ("report", "grow"),
    [
        (dict.fromkeys(NAMES), lambda report: report.update({f"more {len(report)}": None})),
        (set(NAMES), lambda report: report.add(f"more {len(report)}")),
        (list(NAMES), lambda report: report.append(f"more {len(report)}")),
    ],
    ids=["dict", "set", "list"],
)
def test_report_that_changes_during_its_copy_is_converted(report: Any, grow: Callable[[Any], None]) -> None:  # noqa: ANN401 - as named
    """A report that garbage collection changes during its copy is converted."""
    threshold = gc.get_threshold()

    def collect(*_: object) -> None:
        grow(report)

    gc.callbacks.append(collect)
    gc.set_threshold(1, 10**6, 10**6)
    try:
        converted = reported_value(report)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(collect)
    assert isinstance(converted, dict | list)
    assert set(converted) >= set(NAMES)
