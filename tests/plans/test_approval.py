"""Nothing is done with a peak before whoever is to be asked has said yes, or the time is over."""

from __future__ import annotations

import asyncio
import builtins
import os
import sys
import threading
from types import SimpleNamespace

import pytest
from bluesky.run_engine import RunEngine
from bluesky.utils import Msg, RunEngineInterrupted
from ophyd_async.core import soft_signal_rw

from bluesky_zarr.plans import Answer, Approval, Countdown, Prompt, SignalApproval
from bluesky_zarr.plans._approval import approval_of


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo terminal as standard input; gives the end at which a person types."""
    keyboard, line = os.openpty()
    with os.fdopen(line, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keyboard
    os.close(keyboard)


async def test_a_countdown_goes_on_when_it_is_over(capsys):
    answer = await Countdown(timeout=0.02).ask("Found a peak: refine?")
    assert answer == Answer(True, "timeout of 0.02 s")
    assert "Found a peak: refine? Accept (1 s)" in capsys.readouterr().out


async def test_a_countdown_can_end_in_no():
    answer = await Countdown(timeout=0.02, otherwise="reject").ask("?")
    assert answer == Answer(False, "timeout of 0.02 s")


@pytest.mark.parametrize(
    ("typed", "accepted"), [("y", True), ("", True), ("YES", True), ("n", False), ("reject", False)]
)
async def test_a_person_at_a_terminal_answers(terminal, typed, accepted):
    asking = asyncio.create_task(Prompt(timeout=20).ask("Found a peak: refine?"))
    await asyncio.sleep(0.05)
    os.write(terminal, f"{typed}\n".encode())
    answer = await asking
    assert answer.accepted is accepted
    assert answer.by.endswith("at the prompt")


async def test_what_is_neither_yes_nor_no_is_asked_again(terminal, capsys):
    asking = asyncio.create_task(Prompt(timeout=20).ask("refine?"))
    await asyncio.sleep(0.05)
    os.write(terminal, b"perhaps\n")
    await asyncio.sleep(0.1)
    assert not asking.done()
    os.write(terminal, b"n\n")
    assert not (await asking).accepted
    assert "'perhaps' is neither yes nor no" in capsys.readouterr().out


async def test_a_prompt_that_nobody_answers_times_out_and_leaves_the_keyboard_alone(terminal):
    assert (await Prompt(timeout=0.05).ask("refine?")).by == "timeout of 0.05 s"
    os.write(terminal, b"for the shell\n")
    await asyncio.sleep(0.05)
    assert sys.stdin.readline() == "for the shell\n"


async def test_a_prompt_without_a_terminal_lets_the_time_decide(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    answer = await Prompt(timeout=0.02, otherwise="reject").ask("refine?")
    assert answer == Answer(False, "timeout of 0.02 s")


async def test_a_prompt_without_a_terminal_and_without_end_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(RuntimeError, match=r"this session has no terminal.*SignalApproval"):
        await Prompt(timeout=None).ask("refine?")


async def test_a_notebook_asks_by_its_own_input_box(monkeypatch):
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(builtins, "input", lambda: "no")
    assert not (await Prompt(timeout=20).ask("refine?")).accepted


async def test_any_client_can_answer_by_a_signal():
    signal = soft_signal_rw(str, name="approval")
    await signal.connect()
    for word, accepted in ("accept", True), ("reject", False):
        asking = asyncio.create_task(SignalApproval(signal, timeout=20).ask("refine at 3?"))
        while await signal.get_value() != "refine at 3?":
            await asyncio.sleep(0.01)
        await signal.set("who asks?")  # neither yes nor no: the question stands
        await asyncio.sleep(0.02)
        assert not asking.done()
        await signal.set(word)
        assert await asking == Answer(accepted, "signal approval")


async def test_an_answer_from_before_the_question_is_none():
    signal = soft_signal_rw(str, "accept", name="approval")
    await signal.connect()
    answer = await SignalApproval(signal, timeout=0.05, otherwise="reject").ask("refine?")
    assert answer == Answer(False, "timeout of 0.05 s")


def test_a_signal_that_cannot_be_set_is_refused():
    with pytest.raises(ValueError, match="cannot be set and subscribed to"):
        SignalApproval(object())


def test_approvals_have_a_form_in_words():
    assert approval_of(None) is approval_of("none") is None
    prompt = approval_of("prompt 10 reject")
    assert isinstance(prompt, Prompt)
    assert (prompt.timeout, prompt.otherwise) == (10.0, "reject")
    assert isinstance(approval_of("countdown"), Countdown)
    assert approval_of(prompt) is prompt


@pytest.mark.parametrize("words", ["", "maybe", "prompt soon", "none 3"])
def test_other_words_are_refused_with_those_that_exist(words):
    with pytest.raises(ValueError, match="Give 'none', 'prompt', 'countdown'"):
        approval_of(words)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(timeout):
    with pytest.raises(ValueError, match="give the seconds to wait"):
        Countdown(timeout=timeout)


class _Nobody(Approval):
    """Has the RunEngine paused and never answers; counts how often it was asked and taken back."""

    def __init__(self, RE: RunEngine) -> None:
        super().__init__(timeout=None)
        self.RE = RE
        self.asked = self.cancelled = 0

    async def wait(self, question: str) -> Answer:
        self.asked += 1
        threading.Thread(target=self.RE.request_pause, args=[False]).start()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("an event that nobody sets")


@pytest.mark.parametrize("end", ["abort", "stop", "halt"])
def test_a_scan_can_be_ended_while_it_waits_for_an_answer(RE, end):
    nobody = _Nobody(RE)

    def plan():
        yield Msg("checkpoint")
        yield Msg("set", nobody, "refine?", group="approval")
        yield Msg("wait", None, group="approval")

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    assert (nobody.asked, nobody.cancelled) == (1, 1)  # a paused prompt reads no keyboard
    getattr(RE, end)()
    assert RE.state == "idle"
    assert nobody.asked == 1


def test_a_question_is_asked_again_after_a_pause(RE):
    class Once(_Nobody):
        async def wait(self, question: str) -> Answer:
            return Answer(True, "second time") if self.asked else await super().wait(question)

    approval = Once(RE)

    def plan():
        yield Msg("checkpoint")
        yield Msg("set", approval, "refine?", group="approval")
        yield Msg("wait", None, group="approval")

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    RE.resume()
    assert approval.answer == Answer(True, "second time")
