"""Everything that is built in passes its own conformity test."""

import pytest

from gapbench import api, catalog
from gapbench.core.errors import GapbenchError, UnknownNameError

SMALL = {
    "resnet": {"depth": "8"},
    "mlp": {"widths": "[16, 16]"},
    "wresnet": {"depth": "10", "width": "1"},
    "vgg": {"depth": "11", "dropout": "true"},
    "alexnet": {"units": "32"},
    "resnet-imagenet": {"depth": "26"},
}
WITH_NORMS = [name for name, entry in catalog.models().items() if "norm" in entry.parameters and name != "c3"]
"""C3 is C1 but for its classes."""


@pytest.mark.parametrize("name", [*catalog.models()])
def test_every_model_conforms(name):
    report = api.check_components(name, options=SMALL.get(name))
    assert [check for check in report.checks if check.state in ("fail", "warning")] == []
    assert report.ok


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("name", WITH_NORMS)
def test_every_model_conforms_without_batch_norm(name, norm):
    report = api.check_components(name, options={**SMALL.get(name, {}), "norm": norm})
    # A residual branch that begins at 0 passes no gradient back in the first update.
    silent = {"gradients everywhere"} if norm == "none" and "resnet" in name else set()
    assert {check.check for check in report.checks if check.state in ("fail", "warning")} == silent


def test_zagoruykos_form_conforms():
    report = api.check_components("wresnet", options={**SMALL["wresnet"], "form": "preactivation"})
    assert [check for check in report.checks if check.state in ("fail", "warning")] == []


@pytest.mark.parametrize("kind", ["optimizer", "regime", "probe"])
def test_every_optimizer_regime_and_probe_conforms(kind):
    names = {"optimizer": catalog.optimizers, "regime": catalog.regimes, "probe": catalog.probes}[kind]()
    report = api.check_components(*(f"{kind}:{name}" for name in names))
    # LARS has the rate in its velocity, as its paper, and is warned of it by two checks.
    # To train for longer at the reference batch size is what `longer` is for; a batch of one norm group has no noise to measure.
    known = {"optimizer": ["lars", "lars"], "regime": ["longer"], "probe": ["noise_scale_stream"]}
    assert [check.component for check in report.checks if check.state in ("fail", "warning")] == known.get(kind, [])
    assert {check.component for check in report.checks} == set(names)


def test_digits_conform():
    report = api.check_components("dataset:digits")
    assert {check.state for check in report.checks} == {"pass"}


def test_a_model_without_batch_norm_gets_no_check_of_its_swap():
    checks = {check.check: check.state for check in api.check_components("mlp", options={"norm": "none", "widths": "[8]"}).checks}
    assert checks["ghost batch norm, one group"] == "does not apply"
    assert "fail" not in checks.values()


def test_a_name_that_two_kinds_share_is_tested_as_both():
    report = api.check_components("learning_rate")
    assert {check.kind for check in report.checks} == {"probe"}
    assert repr(report).startswith("ConformityReport(")
    assert [*report.frame().columns] == ["kind", "component", "check", "state", "text", "remedy"]


def test_wrong_names_and_options_are_said():
    with pytest.raises(UnknownNameError, match=r'unknown component "resnett" \(did you mean "resnet"\?\).*--plugin FILE'):
        api.check_components("resnett")
    with pytest.raises(UnknownNameError, match='unknown model "digits"'):
        api.check_components("model:digits")
    with pytest.raises(GapbenchError, match='model "resnet": option depth must be'):
        api.check_components("resnet", options={"depth": "9"})
    with pytest.raises(GapbenchError, match='model "resnet" has no option dept'):
        api.check_components("resnet", options={"dept": "8"})
    with pytest.raises(GapbenchError, match=r'dataset "npz" needs the option path.*give it by --set path=VALUE'):
        api.check_components("npz")
    with pytest.raises(GapbenchError, match="options are for one component"):
        api.check_components("mlp", "f1", options={"depth": "8"})
    with pytest.raises(GapbenchError, match="nothing to test"):
        api.check_components()
