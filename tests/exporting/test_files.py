"""ONNX files of strangers: an exported one runs, any other is refused in one clear line, and no code of it runs."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bloodcell
from bloodcell.inference.exported.onnx_engine import load_exported
from bloodcell.inference.loader import load_engines
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture(scope="module")
def model(exported):
    return exported("onnx").read_bytes()


def loop(proto):
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def external(proto):
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def external_inside(proto):
    tensor = TensorProto(name="x", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    branch = next(node for node in proto.graph.node if node.op_type == "If").attribute[0].g
    branch.node.append(helper.make_node("Constant", [], ["stolen"], value=tensor))


def custom(proto):
    proto.opset_import.append(helper.make_opsetid("evil", 1))
    proto.graph.node.append(helper.make_node("Run", ["images"], ["z"], domain="evil"))


def described(**changes):
    def change(proto):
        (entry,) = proto.metadata_props
        entry.value = json.dumps({**json.loads(entry.value), **changes})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (external, "needs data from other files"),
        (external_inside, "needs data from other files"),
        (custom, "operators that are not ONNX's own"),
        (loop, "operator .Loop"),
        (lambda proto: proto.metadata_props.pop(), "bloodcell did not export it"),
        (lambda proto: proto.graph.output.pop(), "inputs and outputs are not those"),
        (lambda proto: proto.graph.node.pop(), "ONNX Runtime refuses it"),
        (described(classes=["a", "b"]), "do not fit its classes"),
        (described(preprocessing={"image_size": 4}), "image_size"),
        (described(format=99), "export the run again"),
    ],
)
def test_an_onnx_file_that_is_not_as_exported_is_refused(model, tmp_path, change, said):
    proto = onnx.ModelProto.FromString(model)
    change(proto)
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(BloodcellError, match=rf"x\.onnx cannot be used: .*{said}"):
        load_exported(tmp_path / "x.onnx")


@pytest.mark.parametrize("content", [b"", b"no model at all", b"PK\x03\x04", b"\x00" * 1000])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BloodcellError, match=r"x\.onnx cannot be used"):
        load_exported(tmp_path / "x.onnx")


def test_a_truncated_file_is_refused(model, tmp_path):
    (tmp_path / "x.onnx").write_bytes(model[:-5000])
    with pytest.raises(BloodcellError, match=r"cannot be used: it is no ONNX file, or damaged"):
        load_exported(tmp_path / "x.onnx")


def test_a_file_of_torch_export_is_not_read(tmp_path, smears, compose):
    from bloodcell.app.app import serve
    from bloodcell.evaluation.evaluate import evaluate
    from bloodcell.inference.predict import predict
    from bloodcell.runtime.config import typed
    from bloodcell.runtime.schema.verbs import AppConfig

    file = tmp_path / "x.PT2"
    file.write_bytes(b"")
    folder = smears.root / "images" / "TRAIN"
    verbs = {
        "predict": ([f"images={folder}", f"output={tmp_path / 'o.csv'}"], predict),
        "evaluate": (["data=imagefolder", f"data.root={folder}"], lambda cfg: evaluate(cfg, tmp_path / "evaluated")),
        "app": (["port=0"], lambda cfg: serve(typed(cfg, AppConfig))),
    }
    refused = pytest.raises(BloodcellError, match=r"x\.PT2: bloodcell writes \.pt2 files .* does not read them; give")
    with refused:
        bloodcell.load(file)
    for verb, (choices, run) in verbs.items():
        with refused:
            run(compose(f"checkpoint={file}", "device=cpu", *choices, verb=verb))


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(BloodcellError, match=r"no such run or checkpoint: .*x\.onnx"):
        load_engines(tmp_path / "x.onnx", "cpu")


def test_an_onnx_file_is_not_run_by_another_reader(exported, model, tmp_path):
    """ONNX Runtime takes a file with these letters at this place for one of its own format."""
    proto = onnx.ModelProto.FromString(model)
    proto.ClearField("producer_name")
    version = proto.ir_version
    proto.ClearField("ir_version")
    file = tmp_path / "x.onnx"
    file.write_bytes(bytes([0x08, version, 0x12, 4]) + b"ORTM" + proto.SerializeToString())
    assert onnx.load(file).producer_name == "ORTM"
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    one, other = (load_exported(each).predict(images) for each in (file, exported("onnx")))
    assert np.array_equal(one.probabilities, other.probabilities)


def test_no_file_says_where_it_was_made(exported):
    for form in ("onnx", "torch"):
        content = exported(form).read_bytes()
        assert b"site-packages" not in content
        assert os.fsencode(Path.cwd()) not in content


def test_images_of_any_number_run(exported):
    images = np.random.default_rng(0).integers(0, 256, (41, 32, 32, 3), dtype=np.uint8)
    engine = load_exported(exported("onnx"))
    all_at_once = engine.predict(images)
    assert all_at_once.probabilities.sum(axis=1) == pytest.approx(np.ones(41))
    for count in (1, 2, 8):
        some = engine.predict(images[:count])
        np.testing.assert_allclose(some.probabilities, all_at_once.probabilities[:count], rtol=0, atol=1e-5)
