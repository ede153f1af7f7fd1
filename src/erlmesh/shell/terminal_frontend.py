"""The shell on a terminal, with prompt_toolkit: editing, history, Tab, colours. Imported only when it is used."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.completion import Completion as PromptCompletion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, completion_is_selected, has_focus, is_searching
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import Lexer, PygmentsLexer
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

try:
    from erlmesh.shell.lexer import ShellLexer
except ImportError:  # without pygments there are no colours
    ShellLexer = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from erlmesh.shell.session_protocol import ShellSession

__all__ = ["run"]

CTRL_C_REPEAT_INTERVAL: Final = 1.0
"""Seconds within which a second Ctrl-C at the prompt prints how to leave the shell."""
_STYLE: Final = Style.from_dict({"prompt": "ansicyan", "pygments.error": ""})


async def run(session: ShellSession, history_file: Path | None = None) -> None:
    """Prompt for lines until ``exit()`` or Ctrl-D. Cancellation restores the terminal."""
    prompt: PromptSession[str] = PromptSession(
        history=_history(history_file),
        completer=_Completer(session),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        lexer=_lexer(),
        style=_STYLE,
        multiline=True,
        key_bindings=_key_bindings(session),
        prompt_continuation=lambda width, _number, _soft: "..> ".rjust(width),
    )
    interrupted = 0.0
    with patch_stdout(raw=True):
        while session.exit_code is None:
            try:
                text = await prompt.prompt_async(FormattedText([("class:prompt", session.prompt)]))
            except KeyboardInterrupt:
                if time.monotonic() - interrupted < CTRL_C_REPEAT_INTERVAL:
                    session.print_hint("Ctrl-D or exit() leaves the shell")
                interrupted = time.monotonic()
                continue
            except EOFError:
                return
            await session.run(text)


def _history(file: Path | None) -> History:
    """Return the history in ``file``, or one in memory if the file cannot be written."""
    if file is None:
        return InMemoryHistory()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        with file.open("ab"):
            return FileHistory(str(file))
    except OSError:
        return InMemoryHistory()


def _lexer() -> Lexer | None:
    return None if ShellLexer is None else PygmentsLexer(ShellLexer)


class _Completer(Completer):
    def __init__(self, session: ShellSession) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[PromptCompletion]:
        del document, complete_event
        return ()  # a remote session answers asynchronously, so only the async method is used

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[PromptCompletion, None]:
        del complete_event
        for found in await self._session.completions(document.text_before_cursor):
            yield PromptCompletion(found.text, start_position=-found.replace_length, display=found.display)


def _key_bindings(session: ShellSession) -> KeyBindings:
    keys = KeyBindings()
    typing = has_focus("DEFAULT_BUFFER") & ~is_searching

    @Condition
    def only_space_before() -> bool:
        return not get_app().current_buffer.document.current_line_before_cursor.strip()

    @keys.add("enter", filter=typing & ~completion_is_selected)
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        at_the_end = not buffer.document.text_after_cursor.strip()
        if at_the_end and session.is_complete(buffer.text):
            buffer.validate_and_handle()
        elif at_the_end:
            line = buffer.document.current_line
            indent = line[: len(line) - len(line.lstrip())] + ("    " if line.rstrip().endswith(":") else "")
            buffer.insert_text("\n" + indent)
        elif session.is_complete(buffer.text) and "\n" not in buffer.text:
            buffer.validate_and_handle()
        else:
            buffer.newline()

    @keys.add("tab", filter=typing & only_space_before)
    def _indent(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("    ")

    return keys
