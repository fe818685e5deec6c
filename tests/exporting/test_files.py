"""Files that others made: an exported one runs, any other is refused in one clear line, and no code of it runs."""

import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from bloodcell.inference.exported import onnx as onnx_file
from bloodcell.inference.exported import torch_export
from bloodcell.inference.exported.loaded import load_exported
from bloodcell.inference.loader import load_engines
from bloodcell.runtime.errors import BloodcellError
from tests.two_faced import two_faced

PROGRAM = "models/model.json"


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
        (external, "wants data of other files"),
        (external_inside, "wants data of other files"),
        (custom, "operators that are not ONNX's own"),
        (loop, "operator .Loop"),
        (lambda proto: proto.metadata_props.pop(), "bloodcell did not export it"),
        (lambda proto: proto.graph.output.pop(), "inputs and outputs are not those"),
        (lambda proto: proto.graph.node.pop(), "ONNX Runtime refuses it"),
        (described(classes=["a", "b"]), "does not fit its classes"),
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


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
@pytest.mark.parametrize("content", [b"", b"no model at all", b"PK\x03\x04", b"\x00" * 1000])
def test_what_is_no_model_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BloodcellError, match=rf"{name} cannot be used"):
        load_exported(tmp_path / name)


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_a_truncated_file_is_refused(exported, tmp_path, form):
    file = tmp_path / f"x{exported(form).suffix}"
    file.write_bytes(exported(form).read_bytes()[:-5000])
    with pytest.raises(BloodcellError, match=r"cannot be used: it is no .*, or damaged"):
        load_exported(file)


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(BloodcellError, match=r"no such run or checkpoint: .*x\.onnx"):
        load_engines(tmp_path / "x.onnx", "cpu")


class Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.fixture
def changed_archive(exported, tmp_path):
    """Write the exported program with other parts: changed_archive({"name": bytes}, {"key": ...}) -> file."""

    def write(parts, text=lambda name, content: content):
        with zipfile.ZipFile(exported("torch")) as old, zipfile.ZipFile(tmp_path / "x.pt2", "w") as new:
            root = old.namelist()[0].partition("/")[0]
            for name in old.namelist():
                short = name.removeprefix(f"{root}/")
                new.writestr(name, parts.pop(short, None) or text(short, old.read(name)))
            for name, content in parts.items():
                new.writestr(f"{root}/{name}", content)
        return tmp_path / "x.pt2"

    return write


def test_the_archive_that_is_written_again_as_it_was_runs(changed_archive):
    assert load_exported(changed_archive({})).classes


@pytest.mark.parametrize(
    "name", ["data/sample_inputs/model.pt", "data/constants/opaque_obj_0", "data/weights/model.pt"]
)
def test_a_pickle_is_never_opened(changed_archive, tmp_path, name):
    buffer = io.BytesIO()
    torch.save(Payload(tmp_path / "owned"), buffer)
    content = pickle.dumps(Payload(tmp_path / "owned")) if "opaque" in name else buffer.getvalue()
    with pytest.raises(BloodcellError, match="pickled objects|which bloodcell does not export"):
        load_exported(changed_archive({name: content}))
    assert not (tmp_path / "owned").exists()


def test_a_tensor_that_is_a_pickle_is_never_opened(changed_archive, tmp_path):
    def pickled(name, content):
        if name != "data/weights/model_weights_config.json":
            return content
        return content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)

    buffer = io.BytesIO()
    torch.save(Payload(tmp_path / "owned"), buffer)
    with pytest.raises(BloodcellError, match="pickled objects"):
        load_exported(changed_archive({"data/weights/weight_0": buffer.getvalue()}, pickled))
    assert not (tmp_path / "owned").exists()


def test_parts_that_another_reader_sees_are_never_opened(changed_archive, tmp_path, capfd):
    """The loader's older format is read by Python's zipfile, and unpickled, where the newer one fails."""

    def newer(name, content):
        return content.replace(b'"major": ', b'"major": 9', 1) if name == PROGRAM else content

    front, back = changed_archive({}, newer).read_bytes(), io.BytesIO()
    with zipfile.ZipFile(back, "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", zipfile.ZipFile(io.BytesIO(front)).read(_path(front)))
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Payload(tmp_path / "owned")))
        for name in ("constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", b"")
    file = tmp_path / "two.pt2"
    file.write_bytes(two_faced(front, back.getvalue()))
    assert "serialized_state_dict.pt" in zipfile.ZipFile(file).namelist()
    capfd.readouterr()
    with pytest.raises(BloodcellError, match=r"torch.export of torch [\d.+a-z]+ refuses it"):
        load_exported(file)
    assert not (tmp_path / "owned").exists()
    assert capfd.readouterr() == ("", "")


def _path(archive):
    return next(name for name in zipfile.ZipFile(io.BytesIO(archive)).namelist() if name.endswith(PROGRAM))


def test_parts_that_would_inflate_are_not_read(exported, tmp_path):
    with (
        zipfile.ZipFile(exported("torch")) as old,
        zipfile.ZipFile(tmp_path / "x.pt2", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(10**7) if name.endswith("weight_0") else old.read(name))
    with pytest.raises(BloodcellError, match="it is no file of torch.export, or damaged"):
        load_exported(tmp_path / "x.pt2")


def test_a_part_that_is_there_twice_is_refused(changed_archive):
    file = changed_archive({})
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(_path(file.read_bytes()), b"{}")
    with pytest.raises(BloodcellError, match="it holds models/model.json, which bloodcell does not export"):
        load_exported(file)


def test_an_onnx_file_is_not_run_by_another_reader(exported, model, tmp_path):
    """ONNX Runtime takes a file with these letters at this place for one of its own format."""
    proto = onnx.ModelProto.FromString(model)
    proto.ClearField("producer_name")
    version = proto.ir_version
    proto.ClearField("ir_version")
    file = tmp_path / "x.onnx"
    file.write_bytes(bytes([0x08, version, 0x12, 4]) + b"ORTM" + proto.SerializeToString())
    assert onnx.load(file).producer_name == "ORTM"
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    one, other = (onnx_file.read(each).run(images) for each in (file, exported("onnx")))
    assert all(np.array_equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"torch.ops.aten.addmm.default"', b'"torch.os.system"'),
        (b'"torch.ops.aten.addmm.default"', b'"torch.ops.aten.from_file.default"'),
        (b'"torch.ops.aten.addmm.default"', b'"torch.ops.aten.save.default"'),
        (b'"expr_str": "', b'"expr_str": "__import__(chr(111)+chr(115)).getcwd() and '),
        (b'"guards_code": []', b'"guards_code": ["__import__(1)"]'),
        (b'"as_int"', b'"as_operator"'),
        (b'"name": "images"', b'"name": "images): import os #"'),
    ],
)
def test_code_in_a_program_is_refused(changed_archive, old, new):
    def change(name, content):
        if name != PROGRAM:
            return content
        assert old in content
        return content.replace(old, new, 1)

    with pytest.raises(BloodcellError, match="which bloodcell does not export"):
        load_exported(changed_archive({}, change))


@pytest.mark.parametrize("text", ["Infinity", "-Infinity", "NaN", "eval", "-Infinity()"])
def test_numbers_that_json_has_not_are_known(changed_archive, text):
    """The masks of attention hold the second, as a text."""

    def change(name, content):
        return (
            re.sub(rb'"as_float": [\d.e-]+', f'"as_float": "{text}"'.encode(), content) if name == PROGRAM else content
        )

    if text in ("eval", "-Infinity()"):
        with pytest.raises(BloodcellError, match="which bloodcell does not export"):
            torch_export.read(changed_archive({}, change))
    else:
        assert torch_export.read(changed_archive({}, change)).about.classes


def test_another_programs_file_of_torch_export_is_refused(tmp_path):
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
    torch.export.save(program, tmp_path / "x.pt2")
    with pytest.raises(BloodcellError, match="bloodcell did not export it"):
        load_exported(tmp_path / "x.pt2")


def test_no_file_says_where_it_was_made(exported):
    for form in ("onnx", "torch"):
        content = exported(form).read_bytes()
        assert b"site-packages" not in content
        assert os.fsencode(Path.cwd()) not in content


def test_images_of_any_number_run(exported):
    images = np.random.default_rng(0).integers(0, 256, (41, 32, 32, 3), dtype=np.uint8)
    engines = [load_exported(exported(form)) for form in ("onnx", "torch")]
    for count in (1, 2, 8, 41):
        first, second = (engine.predict(images[:count]) for engine in engines)
        np.testing.assert_allclose(first.probabilities, second.probabilities, rtol=0, atol=1e-5)
        assert first.probabilities.sum(axis=1) == pytest.approx(np.ones(count))
