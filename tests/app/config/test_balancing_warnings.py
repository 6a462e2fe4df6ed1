"""Balancing that runs but may surprise is told of."""

from __future__ import annotations

import pytest

from silence_gateway.app.config.load import load_text


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        pytest.param(
            "upstreams: {a: {endpoints: [{address: 'h:1', zone: x}]}}",
            "endpoints have zones but this instance has none, so they do not matter: set zone",
            id="zones-but-no-zone",
        ),
        pytest.param(
            "zone: z\nupstreams: {a: {endpoints: [{address: 'h:1', zone: x}, {address: 'h:2', zone: y}]}}",
            "no endpoint of 'a' is in zone 'z'; they are in x, y",
            id="zone-of-nobody",
        ),
        pytest.param(
            "zone: x\nupstreams: {a: {endpoints: [{address: 'h:1', zone: x}, 'h:2']}}",
            "some endpoints have a zone and some have none; those count as a zone of their own",
            id="zone-of-some",
        ),
        pytest.param(
            "upstreams: {a: {endpoints: 'h:1', balancing: {subset: 3}}}",
            "subsets of fewer than 10 load endpoints unevenly: 20 or more is better",
            id="small-subset",
        ),
        pytest.param(
            "upstreams: {a: {endpoints: 'h:1'}}\nroutes: [{match: {path: /a}, importance: low}]",
            "no upstream sheds load, so this changes nothing: give one `shedding`, or remove it",
            id="importance-for-nobody",
        ),
        pytest.param(
            "upstreams: {a: {endpoints: 'h:1', upstream_breaker: {}}}",
            "the worst endpoint is left out here, and there is only one, so this never opens",
            id="a-breaker-of-one",
        ),
        pytest.param(
            "upstreams: {a: {endpoints: 'h:1', timeout: 2s, breaker: {slow_call: 2s}}}",
            "no call takes longer than 2s, so '2s' changes nothing: make it smaller",
            id="slower-than-any-call",
        ),
        pytest.param(
            "upstreams: {a: {endpoints: ['h:1', 'h:2'], upstream_breaker: {slow_call: 6s}}}",
            "no call takes longer than 5s, so '6s' changes nothing: make it smaller",
            id="slower-than-any-call-of-the-upstream",
        ),
    ],
)
def test_a_warning_says_what_will_not_work(text: str, warning: str) -> None:
    (told,) = load_text(text, "g.yaml", {}).warnings

    assert warning in told


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("zone: x\nupstreams: {a: {endpoints: [{address: 'h:1', zone: x}]}}", id="zones"),
        pytest.param("zone: x\nupstreams: {a: {endpoints: 'h:1'}}", id="a-zone-without-zones"),
        pytest.param("upstreams: {a: {endpoints: 'h:1', balancing: {subset: 20}}}", id="subset"),
        pytest.param(
            "upstreams: {a: {endpoints: 'h:1', shedding: {}}}\nroutes: [{match: {path: /}, importance: low}]",
            id="importance",
        ),
        pytest.param(
            "upstreams: {a: {endpoints: {dns: 'h:1'}, upstream_breaker: {}}}", id="a-breaker-of-a-name"
        ),
        pytest.param(
            "upstreams: {a: {endpoints: 'h:1', breaker: {slow_call: 6s}}}\n"
            "routes: [{match: {path: /}, timeout: 9s}]",
            id="slow-on-a-slow-route",
        ),
    ],
)
def test_what_works_is_not_warned_of(text: str) -> None:
    assert load_text(text, "g.yaml", {}).warnings == ()
