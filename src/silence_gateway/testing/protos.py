"""
Descriptor sets of protos written inside a test; needs the grpcio-tools package.

Files of google/api are found where googleapis-common-protos has put them.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path


def compile_protos(sources: Mapping[str, str], *, include_imports: bool = True) -> bytes:
    """
    Return the serialised FileDescriptorSet of *sources* (text by file name).

    Raises:
        ValueError: They do not compile; protoc has said why on standard error.
    """
    from grpc_tools import protoc

    spec = importlib.util.find_spec("grpc_tools")
    assert spec is not None
    assert spec.origin is not None
    tools = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.binpb")
        for name, text in sources.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        flags = ["--include_imports"] if include_imports else []
        code = protoc.main(
            [
                "protoc",
                *flags,
                f"--descriptor_set_out={out}",
                f"-I{folder}",
                f"-I{tools / '_proto'}",
                f"-I{tools.parent}",
                *sources,
            ]
        )
        if code != 0:
            raise ValueError(f"protoc failed with {code}")
        return out.read_bytes()
