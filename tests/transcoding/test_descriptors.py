"""Descriptors from files, in whatever state the files are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from protobuf.wkt import FileDescriptorProto, FileDescriptorSet

from silence_gateway.errors import ConfigError
from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import (
    Descriptors,
    DescriptorsUnusable,
    FileSource,
    FixedSource,
    RawDescriptors,
    parse_file,
)

ONE = 'syntax = "proto3"; package one; import "two.proto"; service S { rpc M(two.T) returns (two.T); }'
TWO = 'syntax = "proto3"; package two; message T { string a = 1; }'


def raw(descriptor_set: bytes) -> RawDescriptors:
    return asyncio.run(FixedSource(descriptor_set).read())


def test_a_file_is_read(tmp_path: Path, library_set: bytes) -> None:
    path = tmp_path / "library.binpb"
    path.write_bytes(library_set)

    descriptors = Descriptors.of(asyncio.run(FileSource([path]).read()))

    assert [service.type_name for service in descriptors.services] == ["library.v1.Library"]


def test_several_files_may_overlap_and_come_in_any_order(tmp_path: Path) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    both.write_bytes(compile_protos({"one.proto": ONE, "two.proto": TWO}))
    alone.write_bytes(compile_protos({"two.proto": TWO}))
    files = FileDescriptorSet.from_binary(both.read_bytes())
    files.file.reverse()
    both.write_bytes(files.to_binary())

    first = asyncio.run(FileSource([both, alone]).read())
    second = asyncio.run(FileSource([alone, both]).read())

    assert Descriptors.of(first).services[0].methods[0].input.type_name == "two.T"
    assert first.digest() == second.digest()


def test_every_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    text, empty, other, good = (tmp_path / name for name in ("text", "empty", "other", "good"))
    text.write_bytes(b"syntax = 'proto3';")
    empty.write_bytes(b"")
    good.write_bytes(compile_protos({"two.proto": TWO}))
    other.write_bytes(compile_protos({"two.proto": TWO.replace("a = 1", "b = 2")}))

    with pytest.raises(ConfigError) as caught:
        asyncio.run(FileSource([tmp_path / "absent", text, empty, good, other, tmp_path]).read())

    problems = caught.value.problems
    assert [problem.partition(": ")[0] for problem in problems] == [
        str(tmp_path / "absent"),
        str(text),
        str(empty),
        str(other),
        str(tmp_path),
    ]
    assert "No such file" in problems[0]
    assert "protoc --include_imports" in problems[1]
    assert "has another two.proto" in problems[3]


def test_missing_imports_that_hold_only_options_or_well_known_types_do_no_harm(
    library_without_imports: bytes,
) -> None:
    # google/api/httpbody.proto is really needed, so that import must be given.
    http_body = compile_protos(
        {
            "x.proto": 'syntax = "proto3"; import "google/api/httpbody.proto";'
            "message X { google.api.HttpBody b = 1; }"
        }
    )
    files = {**raw(library_without_imports).files, **raw(http_body).files}
    files = {name: data for name, data in files.items() if not name.startswith("google/protobuf/")}

    descriptors = Descriptors.of(RawDescriptors(files=files))

    assert descriptors.services[0].methods[0].name == "Whole"


def test_json_names_that_generated_code_leaves_out_are_those_that_the_compiler_would_have_written() -> None:
    text = """
    syntax = "proto2";
    package named;
    message Outer {
      extensions 100 to 200;
      optional int32 plain = 1; optional int32 two_words = 2; optional int32 a__b_ = 3; optional int32 _c = 4;
      optional int32 d_1x = 5; optional int32 Upper_Case = 6; optional int32 import = 7;
      optional int32 renamed = 8 [json_name = "otherName"];
      message Inner { optional int32 in_here = 1; extend Outer { optional int32 nested_more = 101; } }
      map<string, Inner> by_name = 9;
    }
    extend Outer { optional int32 some_more = 100; }
    """
    compiled = raw(compile_protos({"named.proto": text})).files["named.proto"]
    # What a server of generated Python code reflects.
    reflected = descriptor_pb2.FileDescriptorProto.FromString(compiled)
    outer = reflected.message_type[0]
    for field in [
        *reflected.extension,
        *outer.field,
        *(field for inner in outer.nested_type for field in (*inner.field, *inner.extension)),
    ]:
        if field.json_name != "otherName":
            field.ClearField("json_name")

    file = parse_file("named.proto", reflected.SerializeToString())

    assert file == FileDescriptorProto.from_binary(compiled)
    message = Descriptors.of(RawDescriptors(files={"named.proto": file.to_binary()})).registry.message(
        "named.Outer"
    )
    assert message is not None
    read = message.type.from_json('{"twoWords": 1, "otherName": 2, "byName": {"x": {"inHere": 3}}}')
    assert read.to_json() == '{"twoWords":1,"otherName":2,"byName":{"x":{"inHere":3}}}'


def test_a_missing_import_that_is_needed_is_named(library_without_imports: bytes) -> None:
    with pytest.raises(DescriptorsUnusable, match=r"missing imports: .*google/api/httpbody\.proto"):
        Descriptors.of(raw(library_without_imports))


def test_files_that_import_each_other_are_refused() -> None:
    files = FileDescriptorSet.from_binary(compile_protos({"one.proto": ONE, "two.proto": TWO}))
    by_name = {file.name: file for file in files.file}
    by_name["two.proto"].dependency.append("one.proto")

    with pytest.raises(DescriptorsUnusable, match="import each other"):
        Descriptors.of(raw(files.to_binary()))


def test_a_service_that_is_offered_but_not_described_is_missing(library_set: bytes) -> None:
    found = raw(library_set)

    descriptors = Descriptors.of(
        RawDescriptors(files=found.files, services=("library.v1.Library", "library.v1.Gone"))
    )

    assert [service.name for service in descriptors.services] == ["Library"]
    assert descriptors.missing[0][0] == "library.v1.Gone"


def test_the_digest_changes_with_the_content_only(library_set: bytes) -> None:
    found = raw(library_set)
    reordered = RawDescriptors(files=dict(reversed(list(found.files.items()))))

    assert found.digest() == reordered.digest()
    assert found.digest() != RawDescriptors(files={**found.files, "x": b""}).digest()
    assert found.digest() != RawDescriptors(files=found.files, services=()).digest()


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_descriptors_are_unusable_or_usable_but_nothing_else(
    data: st.DataObject, library_set: bytes
) -> None:
    damaged = bytearray(library_set)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        descriptors = Descriptors.of(raw(bytes(damaged)))
    except (DescriptorsUnusable, ConfigError) as error:
        outcome = str(error)
    else:
        outcome = descriptors.digest
    assert outcome
