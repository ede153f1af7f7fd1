"""Translates a term into what msgspec expects of a type. A translator is made once for each type.

A translator changes only what Erlang writes otherwise than Python: binaries, ``nil``, structs, keyword lists. It leaves
a value that does not fit as it is; msgspec then refuses it, with the path. It raises :class:`Misfit` only where msgspec
would not see the fault: it takes a tuple for a list, for example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import inspect as types

from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, Term
from erlmesh.terms.foreign_text import foreign_text
from erlmesh.typed import calendar_types, collection_types, duration, plain_objects
from erlmesh.typed.convert_error import ConvertError, Misfit
from erlmesh.typed.exceptions import ElixirException
from erlmesh.typed.mappings import described, field_name, is_mapping, pairs, require_new_key, text
from erlmesh.typed.structs import STRUCT, StructOptions, module_name, struct_options
from erlmesh.typed.to_terms import AtomEnum

__all__ = ["Converter"]

Translate: TypeAlias = Callable[[Term], Any]
_NIL: Final = Atom("nil")
_TERM_CLASSES: Final = (
    *(Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref),
    *(bool, bytes, float, int, list, tuple),
)
"""The classes of what arrives. A type that none of them is an instance of fits no term."""


class Converter:
    """Converts terms to one type. Raises TypeError if msgspec does not know the type."""

    def __init__(self, type: Any) -> None:
        self._type = type
        self._translate = _Builder().build(types.type_info(type))

    def __call__(self, term: Term) -> Any:
        """Return the value. Raises ConvertError."""
        try:
            return msgspec.convert(self._translate(term), self._type, dec_hook=_unchanged)
        except RecursionError:  # a class that contains itself, and a term deeper than Python's stack
            raise ConvertError(f"the term is nested too deeply for {self._type}") from None
        except Misfit as misfit:
            raise ConvertError(f"{misfit.message} - at `${misfit.path}`") from None
        except msgspec.ValidationError as error:
            raise ConvertError(str(error)) from None


def _unchanged(_type: Any, value: Any) -> Any:
    """Take a value of a class that msgspec does not know: a pid, a range, an exception. msgspec checks its class."""
    return value


class _Translator:
    """The translation for one type. ``accepts`` chooses between the members of a union."""

    __slots__ = ("accepts", "translate")

    def __init__(self, translate: Translate, accepts: Callable[[Term], bool]) -> None:
        self.translate = translate
        self.accepts = accepts


class _Builder:
    """Makes the translators of one type. A class that contains itself gets one translator."""

    def __init__(self) -> None:
        self._classes: dict[type, _Translator] = {}

    def build(self, info: types.Type) -> Translate:
        return self._translator(info).translate

    def _translator(self, info: types.Type) -> _Translator:
        simple = _SIMPLE.get(type(info))
        if simple is not None:
            return simple
        match info:
            case types.Metadata():
                return self._translator(info.type)
            case types.UnionType():
                return self._union(info)
            case types.EnumType():
                return _enumeration(info.cls)
            case types.LiteralType():
                return _literal(info.values)
            case types.CustomType():
                return _custom_class(info.cls)
            case types.DictType():
                return self._dict(info)
            case types.ListType():
                return self._elements(info.item_type, list, "list")
            case types.VarTupleType():
                return self._elements(info.item_type, tuple, "tuple")
            case types.SetType() | types.FrozenSetType():
                return self._set(info.item_type)
            case types.TupleType():
                return self._tuple(info.item_types)
            case types.NamedTupleType():
                return self._tuple(tuple(field.type for field in info.fields))
            case types.StructType() | types.DataclassType() | types.TypedDictType():
                return self._fields(info)
        return _UNCHANGED

    def _union(self, info: types.UnionType) -> _Translator:
        # An empty list is also an empty keyword list. It is a list if the type has one.
        members = [self._translator(member) for member in sorted(info.types, key=_is_for_mappings)]

        def translate(term: Term) -> Any:
            for member in members:
                if member.accepts(term):
                    return member.translate(term)
            return term

        return _Translator(translate, lambda term: any(member.accepts(term) for member in members))

    def _elements(self, item: types.Type, kind: type[list[Term] | tuple[Term, ...]], name: str) -> _Translator:
        translate_item = self.build(item)

        def translate(term: Term) -> Any:
            if not isinstance(term, kind):
                raise Misfit(f"Expected `{name}`, got {described(term)}")
            return [_inside(f"[{index}]", translate_item, element) for index, element in enumerate(term)]

        return _Translator(translate, lambda term: isinstance(term, kind))

    def _tuple(self, items: tuple[types.Type, ...]) -> _Translator:
        translators = [self.build(item) for item in items]

        def translate(term: Term) -> Any:
            if not isinstance(term, tuple):
                raise Misfit(f"Expected `tuple`, got {described(term)}")
            if len(term) != len(translators):
                raise Misfit(f"Expected a tuple of {len(translators)} elements, got {len(term)}")
            each = zip(translators, term, strict=True)
            return tuple(_inside(f"[{index}]", *pair) for index, pair in enumerate(each))

        return _Translator(translate, lambda term: isinstance(term, tuple) and len(term) == len(translators))

    def _set(self, item: types.Type) -> _Translator:
        translate_item = self.build(item)

        def translate(term: Term) -> Any:
            if isinstance(term, list):
                elements = term
            elif _is_struct(term, collection_types.MAP_SET):
                elements = _read(collection_types.elements_of_map_set, term)
            else:
                raise Misfit(f"Expected `MapSet`, got {described(term)}")
            return [_inside("[...]", translate_item, element) for element in elements]

        return _Translator(translate, lambda term: _is_struct(term, collection_types.MAP_SET))

    def _dict(self, info: types.DictType) -> _Translator:
        translate_key, translate_value = self.build(info.key_type), self.build(info.value_type)
        is_text = isinstance(_plain(info.key_type), types.StrType)

        def translate(term: Term) -> Any:
            made: dict[Any, Any] = {}
            for key, value in pairs(term):
                name = key.name if is_text and type(key) is Atom else _inside(".key", translate_key, key)
                require_new_key(name, made)
                made[name] = _inside(f"[{name!r}]", translate_value, value)
            return made

        return _Translator(translate, is_mapping)

    def _fields(self, info: types.StructType | types.DataclassType | types.TypedDictType) -> _Translator:
        cached = self._classes.get(info.cls)
        if cached is not None:
            return cached
        options = struct_options(info.cls)
        fields: dict[str, Translate] = {}
        translator = self._classes[info.cls] = _class_translator(info, options, fields)
        for field in info.fields:  # only now, because a field may have the type of its own class
            fields[field.encode_name] = self.build(field.type)
        return translator


def _class_translator(info: Any, options: StructOptions | None, fields: dict[str, Translate]) -> _Translator:
    tag_field: str | None = getattr(info, "tag_field", None)
    rest_names = [] if options is None else [field.encode_name for field in info.fields if field.name == options.rest]
    rest = rest_names[0] if rest_names else None

    def accepts(term: Term) -> bool:
        if options is not None:
            return _is_struct(term, options.module)
        return is_mapping(term) and (tag_field is None or _tag_of(term, tag_field) in (None, info.tag))

    def translate(term: Term) -> Any:
        if options is not None and isinstance(term, Map) and STRUCT in term and not accepts(term):
            raise Misfit(f"Expected `{module_name(options.module)}`, got {described(term)}")
        made: dict[str, Any] = {}
        unknown: dict[Atom, Term] = {}
        for key, value in pairs(term):
            name = field_name(key)
            translate_field = fields.get(name)
            require_new_key(name, made)
            if key is STRUCT:
                if tag_field == STRUCT.name:
                    made[name] = info.tag
            elif name == tag_field:
                made[name] = _word_or_term(value)
            elif translate_field is not None and name != rest:
                made[name] = _inside(f".{name}", translate_field, value)
            elif rest is not None:
                unknown[key] = value
            else:
                made[name] = value  # msgspec drops it, or refuses it with forbid_unknown_fields
        if rest is not None:
            made[rest] = unknown
        return made

    return _Translator(translate, accepts)


def _tag_of(term: Term, tag_field: str) -> Any:
    """Return the tag of a map or keyword list; None if it has none."""
    return next((_word_or_term(value) for key, value in pairs(term) if _is_named(key, tag_field)), None)


def _is_named(key: Term, name: str) -> bool:
    return key == name.encode() or (type(key) is Atom and key.name == name)


def _is_for_mappings(info: types.Type) -> bool:
    return isinstance(info, (types.StructType, types.DataclassType, types.TypedDictType, types.DictType))


def _inside(step: str, translate: Translate, term: Term) -> Any:
    try:
        return translate(term)
    except Misfit as misfit:
        raise misfit.inside(step) from None


def _is_struct(term: Term, *modules: Atom) -> bool:
    return isinstance(term, Map) and term.get(STRUCT) in modules


def _read(read: Callable[[Map], Any], term: Map) -> Any:
    try:
        return read(term)
    except (ValueError, OverflowError) as error:
        raise Misfit(f"invalid {module_name(term[STRUCT])}: {error}") from None


def _bytes(term: Term) -> Any:
    if isinstance(term, bytes):
        return term
    raise Misfit(f"Expected `bytes`, got {described(term)}")  # msgspec would take a str for base64


def _from_struct(read: Callable[[Map], Any], *modules: Atom) -> _Translator:
    """Return the translator of a type that is a struct in Elixir, or its text in ISO format."""

    def translate(term: Term) -> Any:
        return _read(read, term) if _is_struct(term, *modules) else text(term)

    return _Translator(translate, lambda term: _is_struct(term, *modules))


def _enumeration(cls: Any) -> _Translator:
    values = {member.value for member in cls}
    takes_atoms = issubclass(cls, AtomEnum)

    def translate(term: Term) -> Any:
        if type(term) in (Atom, bool):  # `true` and `false` are atoms, too
            return _word(term)
        return term if takes_atoms else text(term)

    return _Translator(translate, lambda term: _word(term) in values)


def _literal(values: tuple[Any, ...]) -> _Translator:
    def translate(term: Term) -> Any:
        if term is _NIL and None in values:
            return None
        return _word_or_term(term)

    return _Translator(translate, lambda term: translate(term) in values)


def _word(term: Term) -> Any:
    """Return the text of an atom or a binary, and any other simple term as it is; None if it has no text."""
    if type(term) is Atom:
        return term.name
    if isinstance(term, bool):
        return "true" if term else "false"
    try:
        value = text(term)
    except Misfit:
        return None
    return value if isinstance(value, (str, int)) else None


def _word_or_term(term: Term) -> Any:
    word = _word(term)
    return term if word is None else word


def _custom_class(cls: Any) -> _Translator:
    if cls is range:
        return _only(range, _from_struct(collection_types.range_from_term, collection_types.RANGE))
    if cls is ElixirException:
        return _only(cls, _Translator(_exception, lambda term: isinstance(term, Map)))
    read = plain_objects.reader_of(cls)
    if read is not None:
        return _only(cls, _Translator(_read_plain(read, cls), lambda term: isinstance(term, (bytes, tuple))))
    if cls.__module__ == "collections.abc" or not any(issubclass(each, cls) for each in _TERM_CLASSES):
        raise TypeError(
            f"from_term makes no {cls.__module__}.{cls.__qualname__}: name a dataclass, a msgspec.Struct, a class of "
            "terms, or a type of Python such as list[int] or dict[str, int]"
        )
    return _only(cls, _UNCHANGED)


def _read_plain(read: Callable[[type, Any], Any], cls: type) -> Translate:
    """Return what reads a binary or a tuple; any other term stays as it is, and does not fit."""

    def translate(term: Term) -> Any:
        if not isinstance(term, (bytes, tuple)):
            return term
        try:
            return read(cls, term)
        except ValueError as error:
            raise Misfit(f"invalid {cls.__name__}: {foreign_text(str(error))}") from None

    return translate


def _only(cls: type, translator: _Translator) -> _Translator:
    """Return a translator that raises Misfit for what does not become an instance of ``cls``."""

    def translate(term: Term) -> Any:
        value = translator.translate(term)
        if not isinstance(value, cls):
            raise Misfit(f"Expected `{cls.__name__}`, got {described(term)}")
        return value

    accepts = (lambda term: isinstance(term, cls)) if translator is _UNCHANGED else translator.accepts
    return _Translator(translate, accepts)


def _exception(term: Term) -> Any:
    try:
        return ElixirException(term)
    except ValueError:
        return term


def _uuid(term: Term) -> Any:
    if not isinstance(term, bytes):
        return term
    try:
        return plain_objects.uuid_text(term)
    except ValueError:
        raise Misfit("Invalid UUID: it is not text") from None


def _nil(term: Term) -> Any:
    return None if term is _NIL else term


def _plain(info: types.Type) -> types.Type:
    return info.type if isinstance(info, types.Metadata) else info


_UNCHANGED: Final = _Translator(lambda term: term, lambda _term: True)
_BINARY: Final = _Translator(_bytes, lambda term: isinstance(term, bytes))
_SIMPLE: Final[dict[type, _Translator]] = {
    types.AnyType: _UNCHANGED,
    types.NoneType: _Translator(_nil, lambda term: term is _NIL),
    types.BoolType: _Translator(lambda term: term, lambda term: isinstance(term, bool)),
    types.IntType: _Translator(lambda term: term, lambda term: type(term) is int),
    types.FloatType: _Translator(lambda term: term, lambda term: type(term) in (int, float)),
    types.StrType: _Translator(text, lambda term: isinstance(term, bytes)),
    types.BytesType: _BINARY,
    types.ByteArrayType: _BINARY,
    types.MemoryViewType: _BINARY,
    types.UUIDType: _Translator(_uuid, lambda term: isinstance(term, bytes)),
    types.DateTimeType: _from_struct(
        calendar_types.datetime_from_term, calendar_types.DATETIME, calendar_types.NAIVE_DATETIME
    ),
    types.DateType: _from_struct(calendar_types.date_from_term, calendar_types.DATE),
    types.TimeType: _from_struct(calendar_types.time_from_term, calendar_types.TIME),
    types.TimeDeltaType: _from_struct(duration.duration_from_term, duration.DURATION),
    types.DecimalType: _from_struct(collection_types.decimal_from_term, collection_types.DECIMAL),
}
