import pytest

from erlmesh.core.cookies import Cookies
from erlmesh.errors import HandshakeRefused


def test_a_peer_has_its_own_cookie_or_the_default():
    cookies = Cookies("all", {"plato@h": "own"})

    assert (cookies.cookie_for("plato@h"), cookies.cookie_for("other@h")) == ("own", "all")


def test_a_cookie_can_be_changed():
    cookies = Cookies(None, {"plato@h": "own"})
    with pytest.raises(HandshakeRefused, match="no cookie for other@h"):
        cookies.cookie_for("other@h")

    cookies.set("plato@h", "new")
    cookies.set(None, "all")

    assert (cookies.cookie_for("plato@h"), cookies.cookie_for("other@h")) == ("new", "all")


def test_a_node_without_a_cookie_is_refused():
    with pytest.raises(ValueError, match="no default on purpose"):
        Cookies(None, {})


@pytest.mark.parametrize("cookie", ["", "é", "x" * 256, b"bytes"])
def test_an_invalid_cookie_is_refused(cookie):
    with pytest.raises(ValueError, match="a cookie"):
        Cookies(cookie, {})
    with pytest.raises(ValueError, match="a cookie"):
        Cookies("c", {"a@b": cookie})
    cookies = Cookies("c", {})
    with pytest.raises(ValueError, match="a cookie"):
        cookies.set("a@b", cookie)
    assert cookies.cookie_for("a@b") == "c"
