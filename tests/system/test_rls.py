"""The rate limit service as a real program: over stock grpcio and JSON, reloaded, drained, in workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.system.rls_callers import CALL_DEADLINE_S, METHOD, RULES, SERVICE, Served, caller, serve_rls
from tests.system.yard import Yard, ask, until

from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.system

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ADDR = 'rule="shop.addr"'


@pytest.fixture(scope="module")
def served(shared_yard: Yard) -> Served:
    """Return a service that no test may break; each takes keys of its own."""
    return serve_rls(shared_yard)


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def test_a_stock_client_finds_the_service_and_is_limited(served: Served) -> None:
    with caller(served) as client:
        question = {"domain": "shop", "descriptors": [{"entries": [{"key": "addr", "value": "grpc"}]}]}
        answers = [client.ask(question) for _ in range(4)]

    assert [answer["overallCode"] for answer in answers] == ["OK", "OK", "OK", "OVER_LIMIT"]
    [first] = answers[0]["statuses"]
    assert first["currentLimit"] == {"requestsPerUnit": 3, "unit": "YEAR"}
    assert first["limitRemaining"] == 2
    assert 0 < int(first["durationUntilReset"].rstrip("s").partition(".")[0]) <= 31_536_000


def test_a_question_that_makes_no_sense_is_the_callers_fault(served: Served) -> None:
    with caller(served) as client:
        with pytest.raises(grpc.RpcError) as empty:
            client.ask({"domain": "", "descriptors": [{}]})
        with pytest.raises(grpc.RpcError) as refund:
            client.ask({"domain": "shop", "descriptors": [{"isNegativeHits": True}]})
        with pytest.raises(grpc.RpcError) as garbage:
            client.channel.unary_unary(METHOD)(b"\xff", timeout=CALL_DEADLINE_S)

    assert empty.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert empty.value.details() == "the domain is empty"
    assert refund.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert garbage.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["", "ratelimit", SERVICE])
def test_health_is_told_under_every_name_that_probes_ask_for(served: Served, name: str) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        asked = health_pb2.HealthCheckRequest(service=name)
        assert health_pb2_grpc.HealthStub(channel).Check(asked, timeout=CALL_DEADLINE_S).status == SERVING


def test_reflection_lists_what_is_served(served: Served) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        [answer] = stub.ServerReflectionInfo(iter([question]), timeout=CALL_DEADLINE_S)

    assert {service.name for service in answer.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_the_json_door_says_by_its_status_whether_a_request_may_pass(served: Served) -> None:
    assert [served.json("addr=json").status for _ in range(4)] == [200, 200, 200, 429]
    assert served.json("addr=json").json()["overallCode"] == "OVER_LIMIT"
    assert ask(served.json_port, "POST", "/json", {"domain": "shop"}).status == 400
    assert ask(served.json_port, "GET", "/json").status == 405
    assert ask(served.json_port, "GET", "/healthcheck").body == b"OK"
    assert ask(served.json_port, "GET", "/elsewhere").status == 404


def test_both_doors_lead_to_the_same_counters(served: Served) -> None:
    with caller(served) as client:
        assert [client.code("addr=both"), client.code("addr=both")] == ["OK", "OK"]
    assert [served.json("addr=both").status for _ in range(2)] == [200, 429]


def test_metrics_count_by_rule_and_the_rules_are_shown(served: Served) -> None:
    names = ("hits", "over_limit", "near_limit", "within_limit")
    before = {name: served.series(f"silence_rls_{name}_total{{{ADDR}}}") for name in names}
    for _ in range(4):
        served.json("addr=metrics")
    served.json("addr=metrics", domain="nowhere")

    after = {name: served.series(f"silence_rls_{name}_total{{{ADDR}}}") for name in names}
    assert {name: after[name] - before[name] for name in names} == {
        "hits": 4,
        "over_limit": 1,
        "near_limit": 1,
        "within_limit": 3,
    }
    assert served.series('silence_rls_domain_not_found_total{domain="nowhere"}') == 1
    shown = served.gateway.admin("GET", "/rlconfig")
    assert shown.headers["content-type"].startswith("text/plain")
    assert shown.body.decode().splitlines() == [
        "shop.addr: unit=YEAR requests_per_unit=3, shadow_mode: false, quota_mode: false",
        "shop.watched: unit=YEAR requests_per_unit=1, shadow_mode: true, quota_mode: false",
    ]
    [domain] = served.gateway.admin("GET", "/api/v1/rls/rules").json()["domains"]
    assert domain["domain"] == "shop"
    assert served.gateway.admin("GET", "/api/v1/rls/rules?form=poem").status == 400


def test_saved_rules_are_in_force_and_a_mistake_changes_nothing(yard: Yard) -> None:
    served = serve_rls(yard)
    served.json("addr=1")
    served.rules.write_text(RULES.replace("requests_per_unit: 3", "requests_per_unit: 1"))

    until(lambda: served.series("silence_rls_config_load_success_total") == 2, "the rules are loaded anew")
    assert served.json("addr=1").status == 429

    served.rules.write_text("domain: shop\ndescriptor: []\n")
    until(lambda: served.series("silence_rls_config_load_error_total") == 1, "the mistake is seen")
    assert served.json("addr=1").status == 429
    [told] = [event for event in served.gateway.events() if event["event"] == "rules refused"]
    assert "unknown key 'descriptor'" in told["problems"][0]


def test_workers_share_the_port_and_the_counters_and_answer_for_one_another(yard: Yard) -> None:
    served = serve_rls(yard, "--workers", "2", store="embedded://")
    until(lambda: served.gateway.metric("silence_workers") == 2, "two workers run")
    until(lambda: served.series("silence_rls_config_load_success_total") == 2, "both have the rules")
    with ExitStack() as stack:
        clients = [stack.enter_context(caller(served)) for _ in range(6)]
        codes = [client.code("addr=1") for client in clients]

    assert sorted(codes) == ["OK"] * 3 + ["OVER_LIMIT"] * 3
    assert served.series(f"silence_rls_hits_total{{{ADDR}}}") == 6
    assert served.series(f"silence_rls_over_limit_total{{{ADDR}}}") == 3
    assert served.gateway.admin("GET", "/api/v1/stats").json()["rls"]["requests"] == 6
    assert b"shop.addr: unit=YEAR" in served.gateway.admin("GET", "/rlconfig").body
    served.gateway.signal(signal.SIGTERM)
    assert served.gateway.wait(10) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_envoy_may_be_a_neighbour_on_a_unix_socket(yard: Yard, workers: str) -> None:
    served = serve_rls(
        yard, "--workers", workers, store="embedded://", grpc_at=f"unix:{yard.folder}/rls.sock"
    )
    with caller(served) as client:
        assert [client.code("addr=1") for _ in range(4)] == ["OK", "OK", "OK", "OVER_LIMIT"]


def test_a_graceful_end_is_told_to_whoever_watches(yard: Yard) -> None:
    served = serve_rls(yard)
    with grpc.insecure_channel(served.grpc) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="ratelimit"), timeout=CALL_DEADLINE_S
        )
        assert next(states).status == SERVING
        served.gateway.signal(signal.SIGTERM)

        assert next(states).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as end:
            next(states)
    assert end.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.gateway.wait(5) == 0


def test_without_the_store_each_instance_goes_on_with_its_part(yard: Yard, store: ValkeyServer) -> None:
    served = serve_rls(yard, store=store.url)
    with caller(served) as client:
        assert client.code("addr=before") == "OK"
        store.kill()

        assert [client.code("addr=away") for _ in range(4)] == ["OK", "OK", "OK", "OVER_LIMIT"]
    assert served.series("silence_rls_local_decisions_total") >= 4
    assert served.series("silence_rls_store_errors_total") == 0


def test_hits_given_back_at_one_instance_count_at_the_others(yard: Yard, store: ValkeyServer) -> None:
    more = ", local_cache: 100, negative_hits: true"
    one, other = (serve_rls(yard, store=store.url, more=more) for _ in range(2))
    with caller(one) as here, caller(other) as there:
        codes = [client.code("addr=1") for client in (here, there, here, there, here, there)]
        assert codes == ["OK"] * 3 + ["OVER_LIMIT"] * 3
        # Both remember by now, and ask nobody.
        assert there.code("addr=1") == "OVER_LIMIT"
        cached = f"silence_rls_over_limit_with_local_cache_total{{{ADDR}}}"
        assert other.series(cached) >= 1

        here.code("addr=1", isNegativeHits=True, hitsAddend=100)
        until(lambda: there.code("addr=1") == "OK", "the other instance has heard of it")
