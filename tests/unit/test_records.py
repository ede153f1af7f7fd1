"""The value classes of :mod:`erlmesh.records` behave as those of ``dataclasses`` with slots do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import ClassVar, Generic, TypeVar

import pytest

from erlmesh.proto.control import Link, Unlink
from erlmesh.records import field, fields, record
from erlmesh.terms import Atom, Port

C = TypeVar("C")


@record
class Mutable:
    first: int
    second: str = "b"
    third: list[int] = field(default_factory=list)


@record(frozen=True)
class Frozen:
    """Documented."""

    first: int
    second: str = "b"
    ignored: object = field(default=None, compare=False, repr=False)

    def doubled(self):
        return self.first * 2

    @property
    def tripled(self):
        return self.first * 3


@dataclasses.dataclass
class MutableModel:
    first: int
    second: str = "b"
    third: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class FrozenModel:
    first: int
    second: str = "b"
    ignored: object = dataclasses.field(default=None, compare=False, repr=False)


BOTH = [(Mutable, MutableModel), (Frozen, FrozenModel)]


def of_size(count, **options):
    """A record with this number of fields, named a0, a1, …"""
    annotations = {f"a{index}": "int" for index in range(count)}
    return record(**options)(type("Sized", (), {"__annotations__": annotations}))


@pytest.mark.parametrize(("made", "model"), BOTH)
@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [((1,), {}), ((1, "x"), {}), ((), {"first": 1}), ((1,), {"second": "y"}), ((1, "x", 5), {})],
)
def test_fields_are_given_by_position_or_by_name(made, model, arguments, keywords):
    values, expected = made(*arguments, **keywords), model(*arguments, **keywords)

    assert {name: getattr(values, name) for name in made.__slots__} == vars(expected)
    assert repr(values) == repr(expected).replace("Model", "")


@pytest.mark.parametrize(("made", "model"), BOTH)
@pytest.mark.parametrize(
    ("arguments", "keywords"), [((), {}), ((1, 2, 3, 4), {}), ((1,), {"first": 2}), ((1,), {"other": 2})]
)
def test_wrong_arguments_raise_the_error_of_a_function(made, model, arguments, keywords):
    with pytest.raises(TypeError) as expected:
        model(*arguments, **keywords)
    with pytest.raises(TypeError) as raised:
        made(*arguments, **keywords)

    assert str(raised.value) == str(expected.value).replace("Model", "")


@pytest.mark.parametrize(("made", "model"), BOTH)
def test_the_signature_and_the_match_args_are_those_of_the_fields(made, model):
    assert str(inspect.signature(made)) == str(inspect.signature(model))
    assert made.__match_args__ == model.__match_args__
    assert [each.name for each in fields(made)] == [each.name for each in dataclasses.fields(model)]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("count", range(25))
def test_a_record_of_any_size_sets_each_field(count, frozen):
    made = of_size(count, frozen=frozen)
    names = [f"a{index}" for index in range(count)]

    assert [getattr(made(*range(count)), name) for name in names] == list(range(count))
    assert made(**dict(zip(names, range(count), strict=True))) == made(*range(count))
    assert repr(made(*range(count))) == f"Sized({', '.join(f'{name}={name[1:]}' for name in names)})"
    assert list(inspect.signature(made).parameters) == names
    if count:
        with pytest.raises(TypeError, match=rf"missing 1 required positional argument: 'a{count - 1}'"):
            made(*range(count - 1))
    with pytest.raises(TypeError, match="takes"):
        made(*range(count + 1))


@pytest.mark.parametrize("name", ["self_", "init", "made", "cls", "name", "value", "variables", "list", "type"])
def test_a_field_may_have_a_name_that_the_decorator_uses(name):
    for count in (1, 3, 12):
        names = [name, *(f"a{index}" for index in range(count))]
        for frozen in (False, True):
            made = record(frozen=frozen)(type("Named", (), {"__annotations__": dict.fromkeys(names, "int")}))
            values = made(*range(len(names)))

            assert [getattr(values, each) for each in names] == list(range(len(names)))


def test_equality_needs_the_same_class_and_equal_fields():
    @record
    class Other:
        first: int
        second: str = "b"
        third: list[int] = field(default_factory=list)

    assert Mutable(1) == Mutable(1, "b", [])
    assert Mutable(1) != Mutable(1, "b", [2])
    assert Mutable(1) != Other(1)
    assert Mutable(1) != (1, "b", [])
    assert Frozen(1, ignored=2) == Frozen(1, ignored=3)


def test_a_frozen_record_is_hashable_and_a_mutable_one_is_not():
    assert hash(Frozen(1, "x", ignored=2)) == hash(Frozen(1, "x", ignored=3)) == hash((1, "x"))
    assert {Frozen(1): "found"}[Frozen(1)] == "found"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Mutable(1))


def test_a_record_with_unsafe_hash_is_mutable_and_hashable():
    made = of_size(2, unsafe_hash=True)
    values = made(1, 2)
    values.a0 = 5

    assert values == made(5, 2)
    assert hash(values) == hash((5, 2))


def test_a_record_without_eq_is_compared_by_identity():
    made = of_size(1, eq=False)
    values = made(1)

    assert values == values  # noqa: PLR0124 - identity
    assert values != made(1)
    assert hash(values) == object.__hash__(values)


@pytest.mark.parametrize("made", [Frozen(1), of_size(7, frozen=True)(*range(7)), Port(Atom("a@h"), 1, 2)])
def test_a_frozen_record_refuses_assignments(made):
    name = type(made).__slots__[0]
    before = getattr(made, name)

    with pytest.raises(AttributeError, match=f"cannot change '{name}'"):
        setattr(made, name, 5)
    with pytest.raises(AttributeError, match=f"cannot change '{name}'"):
        delattr(made, name)
    with pytest.raises(AttributeError):
        made.other = 5

    assert getattr(made, name) is before


def test_a_mutable_record_takes_assignments_to_its_fields_only():
    values = Mutable(1)
    values.first = 2

    assert values == Mutable(2)
    with pytest.raises(AttributeError):
        values.other = 1
    assert not hasattr(values, "__dict__")


@pytest.mark.parametrize("made", [Mutable(1, "x", [2]), Frozen(1, "x", [2]), Port(Atom("a@h"), 1, 2)])
def test_records_survive_pickle_and_copy(made):
    for again in (
        *(pickle.loads(pickle.dumps(made, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy(made),
        copy.deepcopy(made),
    ):
        assert again == made
        assert again is not made
        assert all(getattr(again, each.name) == getattr(made, each.name) for each in fields(type(made)))


def test_each_instance_has_its_own_default_of_a_factory():
    one, other = Mutable(1), Mutable(1)
    one.third.append(1)

    assert other.third == []
    assert Mutable(1, third=one.third).third is one.third


def test_a_mutable_default_is_refused():
    with pytest.raises(TypeError, match=r"Wrong\.shared: all instances would share this default"):

        @record
        class Wrong:
            shared: list[int] = []  # noqa: RUF012 - this is the fault


def test_a_field_without_a_default_may_not_follow_one_with_a_default():
    with pytest.raises(TypeError, match="without a default follows"):

        @record
        class Wrong:
            first: int = 1
            second: int


def test_a_class_variable_is_refused():
    with pytest.raises(TypeError, match="every annotation of a record is a field"):

        @record
        class Wrong:
            shared: ClassVar[int] = 1


def test_post_init_sees_the_fields_and_may_refuse_them():
    @record(frozen=True)
    class Checked:
        low: int
        high: int = 9
        seen: list[int] = field(default_factory=list)

        def __post_init__(self):
            self.seen.append(self.low)
            if self.low > self.high:
                raise ValueError("low is above high")

    assert Checked(1).seen == [1]
    with pytest.raises(ValueError, match="low is above high"):
        Checked(10)


def test_a_method_of_the_class_body_is_kept():
    @record(frozen=True)
    class Own:  # noqa: PLW1641 - the record has the hash
        first: int

        def __init__(self, text):
            object.__setattr__(self, "first", int(text))

        def __eq__(self, other):
            return isinstance(other, Own)

        def __repr__(self):
            return f"<{self.first}>"

    assert repr(Own("1")) == "<1>"
    assert Own("1") == Own("2")
    assert hash(Own("1")) == hash((1,))


def test_a_record_without_repr_keeps_that_of_its_base():
    class Base:
        __slots__ = ()

        def __repr__(self):
            return "from the base"

    @record(repr=False)
    class Derived(Base):
        first: int

    assert repr(Derived(1)) == "from the base"


def test_a_derived_record_has_the_fields_of_its_base_first():
    @record(frozen=True, kw_only=True)
    class Derived(Frozen):
        extra: int
        second: str = "other"

    values = Derived(1, extra=2)

    assert (values.first, values.second, values.extra, values.doubled()) == (1, "other", 2, 2)
    assert [each.name for each in fields(Derived)] == ["first", "second", "ignored", "extra"]
    assert values != Frozen(1, "other")


def test_a_record_and_its_base_are_both_frozen_or_neither_is():
    with pytest.raises(TypeError, match="both frozen"):

        @record
        class Derived(Frozen):
            extra: int = 1


def test_keyword_only_fields_come_by_name():
    @record(kw_only=True)
    class Options:
        name: str = field(kw_only=False)
        host: str
        port: int = 0

    assert Options("a", host="h") == Options(host="h", port=0, name="a")
    assert Options.__match_args__ == ("name",)
    assert str(inspect.signature(Options)) == "(name: 'str', *, host: 'str', port: 'int' = 0) -> None"
    with pytest.raises(TypeError, match="positional argument"):
        Options("a", "h")


def test_a_generic_class_can_be_a_record():
    @record
    class Box(Generic[C]):
        content: C | None = None

    assert Box[int](1) == Box(1)


def test_a_record_is_documented_and_named_as_its_class():
    assert Frozen.__doc__ == "Documented."
    assert (Frozen.__name__, Frozen.__qualname__, Frozen.__module__) == ("Frozen", "Frozen", __name__)
    assert Frozen.__init__.__qualname__ == "Frozen.__init__"
    assert Frozen(2).tripled == 6


def test_the_metadata_of_a_field_is_kept():
    @record
    class Described:
        first: int = field(default=0, metadata={"unit": "s"})
        second: int = 0

    assert [dict(each.metadata) for each in fields(Described)] == [{"unit": "s"}, {}]


def test_fields_are_those_of_a_record_only():
    with pytest.raises(TypeError, match="is not a record"):
        fields(int)


def test_the_init_is_generated_with_the_first_instance():
    made = of_size(2)
    before = vars(made)["__init__"]
    values = made(1, 2)

    assert not inspect.isfunction(before)
    assert inspect.isfunction(vars(made)["__init__"])
    assert values == made(1, 2)


def test_the_signature_is_known_before_the_first_instance():
    assert str(inspect.signature(of_size(2))) == "(a0: 'int', a1: 'int') -> None"
    assert str(inspect.signature(of_size(1).__init__)) == "(self, a0: 'int') -> None"


@pytest.mark.parametrize("used", [False, True])
def test_a_class_that_is_not_a_record_may_extend_one(used):
    base = of_size(2)
    if used:
        base(1, 2)

    class Plain(base):
        pass

    class Own(base):
        def __init__(self, both):
            super().__init__(both, both)

    assert (Plain(1, 2).a0, Plain(1, 2).a1) == (1, 2)
    assert (Own(5).a0, Own(5).a1) == (5, 5)


@pytest.mark.parametrize("made", [Link, Unlink])
def test_the_init_of_a_signal_only_assigns(made):
    assert made.__init__.__code__.co_names == made.__match_args__
