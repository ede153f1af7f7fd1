"""The destination of a gen_server reply."""

import pytest

from erlmesh.core import gen
from erlmesh.terms import Atom, ImproperList, Pid, Ref

CALLER = Pid(Atom("a@h"), 64, 0, 1)
ALIAS = Ref(Atom("a@h"), 1, (1, 2, 3))
ALIASED = ImproperList((Atom("alias"),), ALIAS)


REPLY_TO = pytest.mark.parametrize("reply_to", dict.fromkeys([gen.reply_to, gen.pure_reply_to]))


@REPLY_TO
@pytest.mark.parametrize(
    "tag",
    [
        ALIASED,
        [ALIASED],
        [ALIASED, Atom("more")],
        ImproperList((ALIASED,), Atom("end")),
        ImproperList((ALIASED, Atom("more")), Atom("end")),
    ],
)
def test_reply_to_a_tag_with_an_alias_goes_to_the_alias(tag, reply_to):
    assert reply_to((CALLER, tag)) == ALIAS


@REPLY_TO
@pytest.mark.parametrize(
    "tag",
    [
        ALIAS,
        Atom("alias"),
        [],
        [Atom("alias"), ALIAS],
        [ALIAS, ALIASED],
        ImproperList((Atom("other"),), ALIAS),
        ImproperList((Atom("alias"),), CALLER),
        ImproperList((Atom("alias"), Atom("alias")), ALIAS),
        ImproperList((ImproperList((Atom("alias"),), 7),), ALIAS),
    ],
)
def test_reply_to_another_tag_goes_to_the_pid(tag, reply_to):
    assert reply_to((CALLER, tag)) == CALLER


@REPLY_TO
@pytest.mark.parametrize("caller", [(), (CALLER,), (CALLER, 1, 2), CALLER, 7])
def test_reply_to_what_is_no_caller_raises(caller, reply_to):
    with pytest.raises((TypeError, ValueError)):
        reply_to(caller)


def test_reply_to_our_own_call_goes_to_its_alias():
    kind, caller, request = gen.call(CALLER, ALIAS, Atom("question"))

    assert (kind, caller, request) == (Atom("$gen_call"), (CALLER, ALIASED), Atom("question"))
    assert gen.reply_to(caller) == ALIAS


def test_cast_wraps_its_message():
    assert gen.cast([1, 2]) == (Atom("$gen_cast"), [1, 2])
