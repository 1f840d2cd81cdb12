import pytest

from local.simulator.directives import Directives, Fault, UnknownDirective, caption, parse


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a lighthouse", Directives()),
        ("a [simple] lighthouse", Directives()),
        ("a lighthouse [sim]", Directives()),
        ("[sim delay=2] a lighthouse", Directives(delay=2)),
        ("[sim delay=0]", Directives(delay=0)),
        ("[sim  webhook=twice   delay=0.05 ]", Directives(delay=0.05, webhook="twice")),
        ("[sim outcome=aborted]", Directives(outcome="aborted")),
        ("[sim create=drop-after-accept times=2]", Directives(create="drop-after-accept", times=2)),
        ("[sim output=wrong-type]", Directives(output="wrong-type")),
        ("[sim cancel=ignored outcome=never]", Directives(cancel="ignored", outcome="never")),
        ("[sim delay=1] a [sim create=429]", Directives(delay=1, create="429")),
    ],
)
def test_directives_are_read_in_any_order(prompt: str, expected: Directives) -> None:
    assert parse(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("[sim colour=red]", "colour=red"),
        ("[sim outcome=exploded]", "outcome=exploded"),
        ("[sim webhook=]", "webhook="),
        ("[sim twice]", "twice"),
        ("[sim delay=soon]", "delay=soon"),
        ("[sim delay=-1]", "delay=-1"),
        ("[sim delay=inf]", "delay=inf"),
        ("[sim delay=nan]", "delay=nan"),
        ("[sim times=0]", "times=0"),
        ("[sim times=1.5]", "times=1.5"),
        ("[sim delay=1 delay=2]", "delay=2"),
        ("[sim delay=1", "never closed"),
    ],
)
def test_a_word_nobody_knows_is_named(prompt: str, named: str) -> None:
    with pytest.raises(UnknownDirective) as raised:
        parse(prompt)

    assert named in str(raised.value)


def test_the_caption_is_the_prompt_without_its_directives() -> None:
    assert caption("a [sim delay=2]  lighthouse [sim webhook=ok]") == "a lighthouse"


def test_a_fault_with_a_count_is_used_up() -> None:
    fault = Fault("429", 2)

    assert [fault.strike() for _ in range(4)] == ["429", "429", "ok", "ok"]


def test_a_fault_without_a_count_is_permanent() -> None:
    fault = Fault("429", None)

    assert [fault.strike() for _ in range(3)] == ["429"] * 3
