"""Retries and hedges that would never come are told of."""

from __future__ import annotations

import pytest

from silence_gateway.app.config.load import load_text


def warnings(retry: str, more: str = "") -> tuple[str, ...]:
    text = f"upstreams: {{a: {{endpoints: 'h:1', timeout: 2s, retry: {{{retry}}}}}}}\n{more}"
    return load_text(text, "g.yaml", {}).warnings


@pytest.mark.parametrize(
    ("retry", "warning"),
    [
        pytest.param(
            "attempts: 1, hedge_after: p95", "so nothing is hedged: raise attempts", id="no-attempt-left"
        ),
        pytest.param("streams: true", "neither is there: add one, or remove it", id="nothing-for-streams"),
        pytest.param(
            "hedge_after: 2s",
            "a whole call may take 2s, so '2s' changes nothing: make it smaller",
            id="hedged-when-it-is-over",
        ),
        pytest.param(
            "attempt_timeout: 3s",
            "a whole call may take 2s, so '3s' changes nothing: make it smaller",
            id="an-attempt-longer-than-its-call",
        ),
    ],
)
def test_a_warning_says_what_will_not_happen(retry: str, warning: str) -> None:
    (told,) = warnings(retry)

    assert warning in told


@pytest.mark.parametrize(
    "retry",
    [
        pytest.param("attempts: 1", id="off"),
        pytest.param("attempts: 1, attempt_timeout: 1s", id="off-with-what-is-left"),
        pytest.param("hedge_after: p95, streams: true", id="a-share"),
        pytest.param("hedge_after: 3s, streams: true", id="streams-take-their-time"),
        pytest.param("hedge_after: 1999ms, attempt_timeout: 1999ms", id="in-time"),
        pytest.param("wait: 2s", id="the-longest-wait-follows"),
        pytest.param("budget: 0, budget_free: 0", id="no-budget"),
    ],
)
def test_what_works_is_not_warned_of(retry: str) -> None:
    assert warnings(retry) == ()


@pytest.mark.parametrize(
    ("routes", "warned"),
    [
        pytest.param("{match: {path: /x}, timeout: 5s}", 0, id="of-any-upstream"),
        pytest.param("{match: {path: /x}, timeout: 5s, upstream: a}", 0, id="of-this-one"),
        pytest.param("{match: {path: /x}, timeout: 1s, upstream: a}", 1, id="a-shorter-one"),
        pytest.param("{match: {path: /x}, auth: none}", 1, id="none"),
    ],
)
def test_a_route_may_give_its_calls_more_time(routes: str, warned: int) -> None:
    assert len(warnings("attempt_timeout: 3s", f"routes: [{routes}]")) == warned
