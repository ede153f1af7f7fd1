"""The sources of the cookie, and the errors about it."""

import os

import pytest

from erlmesh.errors import NodeStartError
from erlmesh.net.cookie_files import find_cookie, read_cookie_file


def cookie_file(path, text="secret\n", mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_options_win_over_variables_and_variables_over_files_of_the_user(tmp_path):
    option, variable = cookie_file(tmp_path / "a", "a"), cookie_file(tmp_path / "b", "b")
    home, config = tmp_path / "home", tmp_path / "config"
    cookie_file(home / ".erlang.cookie", "home")
    cookie_file(config / "erlang" / ".erlang.cookie", "config")
    environment = {
        "ERLMESH_COOKIE_FILE": str(variable), "ERLMESH_COOKIE": "c", "HOME": str(home), "XDG_CONFIG_HOME": str(config),
    }  # fmt: skip

    found = [find_cookie("typed", str(option), environment), find_cookie(None, str(option), environment)]
    for gone in ("ERLMESH_COOKIE_FILE", "ERLMESH_COOKIE", None):
        found.append(find_cookie(None, None, environment))
        environment.pop(gone, None)
    (home / ".erlang.cookie").unlink()
    found.append(find_cookie(None, None, environment))

    assert found == ["typed", "a", "b", "c", "home", "config"]


def test_the_secret_of_a_container_is_the_last_source(tmp_path, monkeypatch):
    monkeypatch.setattr("erlmesh.net.cookie_files._SECRETS_DIR", tmp_path)
    cookie_file(tmp_path / "cookie", "mounted", mode=0o444)
    environment = {"HOME": str(tmp_path / "home")}

    assert find_cookie(None, None, environment) == "mounted"
    cookie_file(tmp_path / "home" / ".erlang.cookie", "home")
    assert find_cookie(None, None, environment) == "home"


def test_without_a_cookie_the_error_says_how_to_make_one(tmp_path):
    with pytest.raises(NodeStartError, match=r"(?s)Make one with.*umask 077.*--cookie-file"):
        find_cookie(None, None, {"HOME": str(tmp_path)})
    with pytest.raises(NodeStartError, match="Make one with"):
        find_cookie(None, None, {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_a_file_that_others_can_read_is_refused_with_the_chmod_to_type(tmp_path, mode):
    file = cookie_file(tmp_path / "cookie", mode=mode)

    with pytest.raises(NodeStartError, match=f"chmod 600 {file}"):
        read_cookie_file(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_owner_is_taken_only_where_a_container_engine_mounts_it(tmp_path, monkeypatch):
    file = cookie_file(tmp_path / "cookie", mode=0o444)
    os.chown(file, 12345, 12345)

    with pytest.raises(NodeStartError, match="belongs to user 12345"):
        read_cookie_file(file)
    monkeypatch.setattr("erlmesh.net.cookie_files._SECRETS_DIR", tmp_path)
    assert read_cookie_file(file) == "secret"


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o620, 0o602])
def test_a_mounted_file_that_others_can_write_is_refused(tmp_path, monkeypatch, mode):
    monkeypatch.setattr("erlmesh.net.cookie_files._SECRETS_DIR", tmp_path)

    with pytest.raises(NodeStartError, match="other users can change"):
        read_cookie_file(cookie_file(tmp_path / "cookie", mode=mode))


@pytest.mark.parametrize(
    ("text", "cookie"),
    [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n \n", "secret"),
        (" secret", " secret"),
        ("secret \n", "secret "),
        ("two words\n", "two words"),
    ],
)
def test_blanks_belong_to_the_cookie_and_line_ends_do_not_as_in_otp(tmp_path, text, cookie):
    assert read_cookie_file(cookie_file(tmp_path / "cookie", text)) == cookie


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("a\nb", "one line"),
        ("a\tb", "one line"),
        ("\nsecret", "one line"),
        ("\xe4", "ASCII"),
        ("x" * 256, "255"),
    ],
)
def test_an_invalid_cookie_is_refused(tmp_path, text, words):
    with pytest.raises(NodeStartError, match=words):
        read_cookie_file(cookie_file(tmp_path / "cookie", text))


def test_a_missing_file_and_a_folder_have_errors_of_their_own(tmp_path):
    with pytest.raises(NodeStartError, match="there is no cookie file"):
        read_cookie_file(tmp_path / "none")
    tmp_path.chmod(0o700)
    with pytest.raises(NodeStartError, match="is a folder: Docker makes one"):
        read_cookie_file(tmp_path)
