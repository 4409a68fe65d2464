"""ONNX graphs that hold no weights of their own.

A model folder's weights lie in safetensors, most of them as fp16. An ONNX
initializer may be "external data": a byte range of another file. So each
weight of a graph becomes a range of the .safetensors beside it, followed by a
Cast to fp32 where it is stored narrower, and every weight exists once.
onnxruntime and OpenVINO fold the Casts when they load the graph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, helper

from engine.errors import ModelError

# What stays inside a graph: shapes, axes, scales. A weight is larger than this
# only if the exporter folded or transposed a copy of it.
MAX_INLINE_BYTES = 65_536

ONNX_TYPES = {
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "F32": TensorProto.FLOAT,
    "F8_E4M3": TensorProto.FLOAT8E4M3FN,
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies in a .safetensors file.

    Attributes:
        dtype: safetensors' name, "F16" for example.
        offset: bytes from the start of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Key -> place of every tensor in a .safetensors file.

    Raises:
        ModelError: the file is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(file.read(size))
    except (OSError, ValueError) as error:
        raise ModelError(f"expected a safetensors file, {path}: {error}") from error
    base = 8 + size
    return {
        key: StoredTensor(
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            offset=base + entry["data_offsets"][0],
            length=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for key, entry in header.items()
        if key != "__metadata__"
    }


def bind(
    casts: list[NodeProto], name: str, onnx_type: int, place: StoredTensor, file: str
) -> TensorProto:
    """A weight as a range of a file, to be an initializer.

    Args:
        casts: gets a Cast to `name` where the weight is stored in another type than `onnx_type`.
        file: its name, in the graph's own folder.
    """
    stored_type = ONNX_TYPES[place.dtype]
    narrow = stored_type != onnx_type
    tensor = TensorProto(
        name=f"{name}/stored" if narrow else name,
        data_type=stored_type,
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", file), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(value))
    if narrow:
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx_type))
    return tensor


def point_into(graph: ModelProto, weights: Path, prefix: str = "") -> int:
    """Replaces the weights that a graph holds by ranges of a .safetensors file.

    Args:
        graph: changed in place; its weights are named as in the file, behind `prefix`.
        weights: the file, which must lie beside the graph when it is loaded.
        prefix: what the exporter put before the file's keys.

    Returns:
        Number of bytes that the graph reads from the file.

    Raises:
        ModelError: a weight has another shape or an unknown type in the file,
            or something as large as a weight stayed inside.
    """
    stored = stored_tensors(weights)
    kept: list[TensorProto] = []
    casts: list[NodeProto] = []
    shared_bytes = 0
    for initializer in graph.graph.initializer:
        place = stored.get(initializer.name.removeprefix(prefix))
        if place is None:
            if len(initializer.raw_data) > MAX_INLINE_BYTES:
                raise ModelError(
                    f"{initializer.name} {tuple(initializer.dims)} is not in {weights.name} and "
                    f"has {len(initializer.raw_data)} bytes: the exporter folded a weight"
                )
            kept.append(initializer)
            continue
        if place.shape != tuple(initializer.dims) or place.dtype not in ONNX_TYPES:
            raise ModelError(
                f"{weights.name}: expected {initializer.name} as a float of shape "
                f"{tuple(initializer.dims)}, found {place.dtype} {place.shape}"
            )
        kept.append(bind(casts, initializer.name, TensorProto.FLOAT, place, weights.name))
        shared_bytes += place.length
    nodes = [*casts, *graph.graph.node]
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend(kept)
    graph.graph.node.extend(nodes)
    return shared_bytes
