"""Files in 8-bit integers: one is written only if it is fast and exact enough, and bloodcell reads it."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

import bloodcell
from bloodcell.data.samples import read_samples
from bloodcell.exports.export import export
from bloodcell.exports.formats import FORMATS
from bloodcell.inference import quantisation
from bloodcell.inference.exported.onnx_check import checked
from bloodcell.runtime.errors import BloodcellError

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def in_int8(compose, exported, learnt_run, tmp_path, monkeypatch):
    """Export the learnt run in integers, with these limits, as so small a net gains nothing: in_int8(rate, lost)."""
    ready = exported("onnx").read_bytes()
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=lambda *_: ready))

    def run(rate, lost):
        limits = {"LEAST_RATE": rate, "MOST_LOST": lost, "ROUNDS": 1, "SECONDS": 0.01, "CALIBRATION": 8}
        for name, value in limits.items():
            monkeypatch.setattr(quantisation, name, value)
        return export(
            compose(f"checkpoint={learnt_run}", "precision=int8", f"output={tmp_path / 'x.onnx'}", verb="export")
        )

    return run


def test_a_file_in_integers_says_so_and_predicts(in_int8, exported, learnt_run, monkeypatch, capsys):
    monkeypatch.setattr(quantisation, "has_int8_products", lambda: False)
    file = in_int8(1000.0, 100.0)
    said = capsys.readouterr().out
    assert "int8: " in said
    assert "balanced accuracy" in said
    assert "it does not pay on this processor" in said
    assert "in 8-bit integers" in file.with_name("x.onnx.md").read_text()
    assert checked(file.read_bytes()).precision == "int8"
    assert [node.op_type for node in onnx.load(file).graph.node].count("QuantizeLinear") > 3
    images = [str(path) for path in read_samples(learnt_run / "samples.csv").of_split("val").paths()[:8]]
    float32, integers = (bloodcell.load(one, device="cpu").predict(images) for one in (exported("onnx"), file))
    columns = [name for name in float32 if name.startswith("p_")]
    assert np.abs(float32[columns].to_numpy() - integers[columns].to_numpy()).mean() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "lost"), [(1000.0, 100.0), (0.0, -200.0)])
def test_one_that_is_slow_or_inexact_is_not_written(in_int8, tmp_path, monkeypatch, rate, lost):
    monkeypatch.setattr(quantisation, "has_int8_products", lambda: True)
    with pytest.raises(BloodcellError, match=r"times the rate of float32.* nothing is written"):
        in_int8(rate, lost)
    assert list(tmp_path.iterdir()) == []


def test_other_formats_and_checkpoints_without_images_are_refused(compose, learnt_run, tmp_path):
    with pytest.raises(BloodcellError, match="precision=int8 is for format=onnx"):
        export(compose(f"checkpoint={learnt_run}", "precision=int8", "format=torch", verb="export"))
    with pytest.raises(BloodcellError, match="precision=int4; choose float32 or int8"):
        export(compose(f"checkpoint={learnt_run}", "precision=int4", verb="export"))


def test_blocks_of_no_size_are_refused(exported):
    model = onnx.load(exported("onnx"))
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["images", "images"], ["y"], block_size=0))
    with pytest.raises(BloodcellError, match="attribute of 0 or less"):
        checked(model.SerializeToString())
