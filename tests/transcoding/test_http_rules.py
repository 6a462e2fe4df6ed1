"""Rules that can be served, and rules that cannot."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protobuf import DescMethod, Registry
from protobuf.wkt import FileDescriptorSet

from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import Descriptors, FixedSource
from silence_gateway.transcoding.http_rules import HTTP_OPTION, read_rule, rules_of
from silence_gateway.transcoding.wire import write_bytes

PROTO = """
syntax = "proto3";
package p;
import "google/api/annotations.proto";
import "google/protobuf/struct.proto";
message In {
  string id = 1; In more = 2; repeated string many = 3; map<string, string> map = 4;
  google.protobuf.Struct any = 5; repeated In list = 6;
}
message Out { In in = 1; }
service S {
  rpc M(In) returns (Out) { option (google.api.http) = { %s }; }
  rpc Other(In) returns (Out) { option (google.api.http) = { get: "/other" }; }
}
"""


def method_with(rule: str) -> DescMethod:
    files = FileDescriptorSet.from_binary(compile_protos({"p.proto": PROTO % rule}))
    service = files.to_registry().service("p.S")
    assert service is not None
    return service.methods[0]


def test_every_kind_of_rule_is_read() -> None:
    rules, problems = rules_of(
        method_with(
            'put: "/v1/{id}" body: "more" response_body: "in"'
            ' additional_bindings { get: "/v1/{more.id=a/*}:go" }'
            ' additional_bindings { custom { kind: "purge" path: "/v1" } }'
            ' additional_bindings { delete: "/v1" } additional_bindings { patch: "/v1" body: "*" }'
        )
    )

    assert problems == []
    assert [(rule.verb, rule.template.text, rule.body) for rule in rules] == [
        ("PUT", "/v1/{id}", "more"),
        ("GET", "/v1/{more.id=a/*}:go", ""),
        ("PURGE", "/v1", ""),
        ("DELETE", "/v1", ""),
        ("PATCH", "/v1", "*"),
    ]
    assert rules[0].body_field is not None
    assert rules[0].response_field is not None
    assert [field.name for field in rules[1].path_fields[0]] == ["more", "id"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        pytest.param('get: "/{nope}"', "p.In has no field 'nope'", id="unknown-field"),
        pytest.param('get: "/{more.nope}"', "has no field 'nope'", id="unknown-nested-field"),
        pytest.param('get: "/{id.x}"', "not a single message", id="inside-a-scalar"),
        pytest.param('get: "/{many}"', "repeated", id="repeated-variable"),
        pytest.param('get: "/{map}"', "repeated", id="map-variable"),
        pytest.param('get: "/{list.id}"', "not a single message", id="inside-repeated"),
        pytest.param('get: "/{more}"', "cannot be written as text", id="message-variable"),
        pytest.param('get: "/{any}"', "cannot be written as text", id="struct-variable"),
        pytest.param('post: "/x" body: "nope"', "body 'nope' is not a field of p.In", id="unknown-body"),
        pytest.param('post: "/x" body: "more.id"', "not one inside another", id="nested-body"),
        pytest.param('post: "/{id}" body: "id"', "both the body and a variable", id="body-in-the-path"),
        pytest.param(
            'get: "/x" response_body: "id"', "'id' is not a field of p.Out", id="unknown-response-body"
        ),
        pytest.param('get: "/{id"', "'}' is missing at position 4", id="template"),
        pytest.param('get: "x"', "starts with '/'", id="no-slash"),
        pytest.param('body: "*"', "no path", id="no-path"),
        pytest.param('custom { kind: "a b" path: "/x" }', "not an HTTP method", id="bad-method"),
        pytest.param('custom { path: "/x" }', "not an HTTP method", id="no-method"),
    ],
)
def test_a_rule_that_cannot_be_used_takes_nothing_else_down(rule: str, reason: str) -> None:
    rules, problems = rules_of(method_with(rule + ' additional_bindings { get: "/fine" }'))

    assert [usable.template.text for usable in rules] == ["/fine"]
    assert [(problem.method, reason in problem.reason) for problem in problems] == [("p.S/M", True)]
    assert str(problems[0])


def test_rules_are_read_without_the_descriptor_of_rules(library_set: bytes) -> None:
    whole = asyncio.run(FixedSource(library_set).read())
    files = {name: data for name, data in whole.files.items() if name != "google/api/http.proto"}
    files = {name: data for name, data in files.items() if name != "google/api/annotations.proto"}

    services = Descriptors.of(type(whole)(files=files)).services

    rules, problems = rules_of(services[0].methods[0])
    assert problems == []
    assert rules[0].template.text == "/v1/whole"


def test_an_option_that_is_not_a_rule_is_a_problem_of_its_method(registry: Registry) -> None:
    service = registry.service("library.v1.Library")
    assert service is not None
    method = service.methods[0]
    assert method.proto.options is not None
    broken = type(method.proto.options).from_binary(write_bytes(HTTP_OPTION, b"\x12\xff"))
    kept, method.proto.options = method.proto.options, broken
    try:
        rules, problems = rules_of(method)
    finally:
        method.proto.options = kept

    assert rules == []
    assert "cannot be read" in problems[0].reason


def test_additional_bindings_do_not_nest() -> None:
    innermost = write_bytes(11, write_bytes(2, b"/x"))

    with pytest.raises(ValueError, match="of its own"):
        list(read_rule(write_bytes(11, innermost), nested=False))


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_any_bytes_are_rules_or_a_value_error(data: bytes) -> None:
    try:
        rules = list(read_rule(data, nested=False))
    except ValueError:
        rules = []
    assert all(isinstance(str(rule), str) for rule in rules)
