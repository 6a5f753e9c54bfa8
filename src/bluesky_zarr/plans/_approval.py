"""Who says yes before a scan acts on what it found: nobody, a countdown, a person, a signal."""

from __future__ import annotations

import asyncio
import getpass
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bluesky.protocols import Status
from bluesky.utils import maybe_await

from ._lines import LineReader

__all__ = ["Answer", "Approval", "Countdown", "Prompt", "SignalApproval", "approval_of"]

Choice = Literal["accept", "reject"]

_YES = ("y", "yes", "accept", "approve", "go", "true", "1")
_NO = ("n", "no", "reject", "refuse", "stop", "false", "0")


@dataclass(frozen=True)
class Answer:
    """Whether an action was approved, and who said so.

    >>> Answer(True, "timeout of 3 s")
    Answer(accepted=True, by='timeout of 3 s')
    """

    accepted: bool
    by: str


class Approval(ABC):
    """Asks before the scan acts on what it found.

    To the RunEngine it is a device that is set to a question, and is done when there is an answer:
    waiting blocks nothing, a pause ends the question and resuming asks it again, an abort ends it
    for good. A kind of one's own is a subclass with `wait`.

    Parameters
    ----------
    timeout
        Seconds after which `otherwise` is the answer; None waits without end.
    otherwise
        What the answer is when nobody gave one: "accept" goes on, "reject" ends the scan.

    Raises
    ------
    ValueError
        For a time that is not positive, or another word.

    Examples
    --------
    >>> class Never(Approval):
    ...     async def wait(self, question):
    ...         return Answer(False, "policy")
    >>> asyncio.run(Never().ask("zoom in on the peak at 7.11?"))
    Answer(accepted=False, by='policy')
    """

    name = "approval"
    parent = None

    def __init__(self, timeout: float | None = 3.0, otherwise: Choice = "accept") -> None:
        if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(
                f"timeout={timeout}: give the seconds to wait for an answer, or None for ever."
            )
        if otherwise not in ("accept", "reject"):
            raise ValueError(f"otherwise={otherwise!r}: it is 'accept' or 'reject'.")
        self.timeout = timeout
        self.otherwise = otherwise
        self.answer: Answer | None = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def wait(self, question: str) -> Answer:
        """Wait for the answer; the timeout is not this method's business."""

    async def ask(self, question: str) -> Answer:
        """Give the answer to one question, at the latest after the timeout."""
        try:
            async with asyncio.timeout(self.timeout):
                return await self.wait(question)
        except TimeoutError:
            return Answer(self.otherwise == "accept", f"timeout of {self.timeout:g} s")

    # -- what the RunEngine calls --------------------------------------------------------------

    def set(self, value: str) -> Status:
        """Ask a question; done when `answer` is there.

        A question that was answered already is not asked again: a pause may repeat the message.
        """
        self._cancel()
        status = _Asked()
        if self.answer is not None:
            status.finish(None)
        else:
            self._task = asyncio.get_running_loop().create_task(self._ask(value, status))
        return status

    def forget(self) -> None:
        """Forget the last answer: the next question is another one."""
        self.answer = None

    async def _ask(self, question: str, status: _Asked) -> None:
        try:
            self.answer = await self.ask(question)
        except Exception as error:
            status.finish(error)
        else:
            status.finish(None)

    async def pause(self) -> None:
        """Take the question back: the RunEngine repeats it after the pause."""
        await self._withdraw()

    async def resume(self) -> None:
        """Forget the task that was cancelled: the question is a message of the replay."""
        self._task = None

    async def stop(self, success: bool = True) -> None:
        """Take the question back: the plan is over."""
        await self._withdraw()

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def _withdraw(self) -> None:
        self._cancel()
        if self._task is not None:  # until it is over: a prompt leaves the keyboard to others
            await asyncio.gather(self._task, return_exceptions=True)


class Countdown(Approval):
    """Says what will be done, and does it after a few seconds unless the plan is stopped."""

    async def wait(self, question: str) -> Answer:
        """Show the seconds that are left."""
        await _count_down(f"{question} {self.otherwise.capitalize()}", self.timeout)
        return Answer(self.otherwise == "accept", "nobody")  # only without a timeout


class Prompt(Approval):
    """Asks in the terminal or the notebook, with a countdown.

    Return alone accepts; "n" rejects. In a session that has no terminal (a queue server, say)
    nobody answers, and the timeout decides.

    Raises
    ------
    RuntimeError
        When it is asked without a timeout where nobody can answer.
    """

    async def wait(self, question: str) -> Answer:
        """Show the question with a countdown, and read a line."""
        reader = LineReader.here()
        if reader is None:
            if self.timeout is None:
                raise RuntimeError(
                    "Nobody can answer here: this session has no terminal. Give the prompt a "
                    "timeout, Prompt(timeout=10), or ask by a signal, SignalApproval(signal)."
                )
            await _forever()
        assert reader is not None
        counting = asyncio.create_task(_count_down(f"{question} [Y/n]", self.timeout))
        try:
            while True:
                word = (await reader.line()).strip().lower()
                if word in ("", *_YES):
                    return Answer(True, f"{_user()} at the prompt")
                if word in _NO:
                    return Answer(False, f"{_user()} at the prompt")
                _say(f"'{word}' is neither yes nor no: type y or n, and return.\n")
        finally:
            counting.cancel()
            _say("\n")


class SignalApproval(Approval):
    """Asks any client that can set a signal: a queue server's, a web page, another process.

    Parameters
    ----------
    signal
        A device that can be set and subscribed to, with text for a value: ophyd-async's
        ``soft_signal_rw(str, name="approval")`` or an EPICS record. It is set to the question, and
        then answered by setting it to "accept" or "reject" ("yes", "no", ... do as well).
    timeout, otherwise
        As for every `Approval`.
    """

    def __init__(
        self, signal: Any, timeout: float | None = 3.0, otherwise: Choice = "accept"
    ) -> None:
        super().__init__(timeout, otherwise)
        if not hasattr(signal, "set") or _subscription(signal) is None:
            raise ValueError(
                f"{signal!r} cannot be set and subscribed to: give a signal with text for a value, "
                "such as ophyd_async.core.soft_signal_rw(str, name='approval')."
            )
        self.signal = signal

    async def wait(self, question: str) -> Answer:
        """Set the signal to the question, and wait until somebody sets it to an answer."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bool] = loop.create_future()

        def take(word: str) -> None:
            if word in (*_YES, *_NO) and not found.done():
                found.set_result(word in _YES)

        def changed(readings: dict[str, Any] | None = None, **classic: Any) -> None:
            # Classic ophyd says the value by name, ophyd-async gives readings.
            values = [r["value"] for r in (readings or {}).values()] or [classic.get("value")]
            for value in values:
                loop.call_soon_threadsafe(take, str(value).strip().lower())

        # The question first: an answer that is left from another one is no answer to this.
        await maybe_await(self.signal.set(question))
        subscribe = _subscription(self.signal)
        assert subscribe is not None
        subscribe(changed)
        try:
            return Answer(await found, f"signal {self.signal.name}")
        finally:
            self.signal.clear_sub(changed)


def approval_of(given: Approval | str | None) -> Approval | None:
    """Make an approval from what a user typed: a word, seconds, and what happens otherwise.

    Raises
    ------
    ValueError
        For other words.

    Examples
    --------
    >>> approval_of("prompt 10 reject").timeout
    10.0
    >>> approval_of("none") is None
    True
    """
    if given is None or isinstance(given, Approval):
        return given
    if not isinstance(given, str):
        raise ValueError(f"approve={given!r}: {_ADVICE}")
    kind, *rest = given.split() or [""]
    options: dict[str, Any] = {}
    for word in rest:
        if word in ("accept", "reject"):
            options["otherwise"] = word
        else:
            try:
                options["timeout"] = float(word)
            except ValueError:
                raise ValueError(f"approve={given!r}: '{word}' is not clear. {_ADVICE}") from None
    if kind == "none" and not rest:
        return None
    if kind == "prompt":
        return Prompt(**options)
    if kind == "countdown":
        return Countdown(**options)
    raise ValueError(f"approve={given!r}: {_ADVICE}")


_ADVICE = (
    "Give 'none', 'prompt', 'countdown', with seconds and with what happens otherwise if you like "
    "('prompt 10 reject'), or an Approval object."
)


class _Asked:
    """The status of a question; one that was taken back is never done."""

    def __init__(self) -> None:
        self.done = False
        self.success = False
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Status], None]] = []

    def add_callback(self, callback: Callable[[Status], None]) -> None:
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        return self._error

    def finish(self, error: BaseException | None) -> None:
        self.done, self.success, self._error = True, error is None, error
        for callback in self._callbacks:
            callback(self)


def _subscription(signal: Any) -> Callable[[Any], None] | None:
    return getattr(signal, "subscribe_reading", None) or getattr(signal, "subscribe", None)


async def _count_down(text: str, seconds: float | None) -> None:
    if seconds is None:
        _say(f"{text} ")
        await _forever()
        return
    for left in range(math.ceil(seconds), 0, -1):
        _say(f"\r\x1b[2K{text} ({left} s) " if sys.stdout.isatty() else f"{text} ({left} s)\n")
        await asyncio.sleep(min(1.0, seconds - (math.ceil(seconds) - left)))
    await _forever()  # the timeout says the rest


async def _forever() -> None:
    await asyncio.Event().wait()


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "somebody"
