"""Write GGUF files of a larger model's shape, with random weights: what speed there is does not depend on values.

    python benchmarks/shapes.py --folder DIR                  the vocabulary of the default model
    python benchmarks/shapes.py --folder DIR --vocabulary FILE    that of another GGUF file

The shape is Llama-3.2-1B's but for the vocabulary; the kinds of storage are those that llama.cpp gives the real
model. Needs the package `gguf`. Takes a few seconds and 1.8 GB of disk.
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, HIDDEN = 16, 2048, 32, 8, 64, 8192
DEVIATION = 0.02  # of the weights, about: activations stay as small as a trained model's
FILE_TYPES = {"q8_0": 7, "q4_k_m": 15}  # llama_ftype

# Blocks by kind: how many weights each has, its layout, and half-precision scales for that deviation. All other bytes
# are random, so a weight of Q4_K is scale * (0 to 63) * (0 to 15) - minimum * (0 to 63), which 7.5 centres.
BLOCKS = {
    "Q8_0": (32, [("scale", "<f2"), ("values", "i1", 32)], {"scale": DEVIATION / 74}),
    "Q4_K": (
        256,
        [("scale", "<f2"), ("minimum", "<f2"), ("scales", "u1", 12), ("low", "u1", 128)],
        {"scale": DEVIATION / 258, "minimum": 7.5 * DEVIATION / 258},
    ),
    "Q6_K": (
        256,
        [("low", "u1", 128), ("high", "u1", 64), ("scales", "i1", 16), ("scale", "<f2")],
        {"scale": DEVIATION / 1366},
    ),
}


def shapes():
    """Every matrix by name, rows first."""
    block = {
        "attn_q": (HEADS * HEAD_WIDTH, WIDTH),
        "attn_k": (KV_HEADS * HEAD_WIDTH, WIDTH),
        "attn_v": (KV_HEADS * HEAD_WIDTH, WIDTH),
        "attn_output": (WIDTH, HEADS * HEAD_WIDTH),
        "ffn_gate": (HIDDEN, WIDTH),
        "ffn_up": (HIDDEN, WIDTH),
        "ffn_down": (WIDTH, HIDDEN),
    }
    return {(layer, name): shape for layer in range(LAYERS) for name, shape in block.items()}


def kind_of(layer, name, mix):
    """The storage of a matrix in llama.cpp's mixes."""
    if mix == "q8_0":
        return "Q8_0"
    more_bits = layer < LAYERS // 8 or layer >= 7 * LAYERS // 8 or (layer - LAYERS // 8) % 3 == 2
    return "Q6_K" if more_bits and name in ("attn_v", "ffn_down") else "Q4_K"


def tensors(vocabulary, mix):
    """(name, shape, kind) of all tensors in the order of the file; the embedding is the output matrix too."""
    yield "token_embd.weight", (vocabulary, WIDTH), "Q8_0" if mix == "q8_0" else "Q6_K"
    yield "output_norm.weight", (WIDTH,), "F32"
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", (WIDTH,), "F32"
        yield f"blk.{layer}.ffn_norm.weight", (WIDTH,), "F32"
    for (layer, name), shape in shapes().items():
        yield f"blk.{layer}.{name}.weight", shape, kind_of(layer, name, mix)


def blocks(shape, kind, random):
    """The bytes of a tensor, [rows, bytes of a row]; a vector is all ones."""
    if kind == "F32":
        return np.ones(shape, np.float32)
    length, layout, scales = BLOCKS[kind]
    records = np.frombuffer(random.bytes(shape[0] * shape[1] // length * np.dtype(layout).itemsize), layout).copy()
    for name, scale in scales.items():
        records[name] = scale
    return records.view(np.uint8).reshape(shape[0], -1)


def settings(writer, vocabulary, mix):
    """The metadata of the shape, and the tokenizer of the file `vocabulary`."""
    writer.add_file_type(FILE_TYPES[mix])
    writer.add_quantization_version(2)
    writer.add_block_count(LAYERS)
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500_000.0)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    for field in vocabulary.fields.values():
        if field.name.startswith("tokenizer."):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)


def write(path, vocabulary, mix):
    """One file, tensor after tensor."""
    writer = GGUFWriter(path, "llama")
    settings(writer, vocabulary, mix)
    tokens = len(vocabulary.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(tokens)
    for name, shape, kind in tensors(tokens, mix):
        if kind == "F32":
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * shape[0])
        else:
            length, layout, _ = BLOCKS[kind]
            row = shape[1] // length * np.dtype(layout).itemsize
            stored = GGMLQuantizationType[kind]
            writer.add_tensor_info(name, (shape[0], row), np.dtype(np.uint8), shape[0] * row, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(1)
    for _, shape, kind in tensors(tokens, mix):
        writer.write_tensor_data(blocks(shape, kind, random))
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("."), help="where the files go")
    parser.add_argument("--vocabulary", help="a GGUF file with the tokenizer to copy")
    options = parser.parse_args()
    if options.vocabulary is None:
        from nextok.hub import resolve

        options.vocabulary = resolve("smollm2").path
    options.folder.mkdir(parents=True, exist_ok=True)
    vocabulary = GGUFReader(options.vocabulary)
    for mix in FILE_TYPES:
        path = options.folder / f"llama-1b-{mix}.gguf"
        write(path, vocabulary, mix)
        print(f"{path}  {path.stat().st_size / 1e6:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
