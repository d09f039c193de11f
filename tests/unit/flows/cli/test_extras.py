"""Messages about packages that are not installed."""

from __future__ import annotations

import pytest

from flows.cli.extras import missing_package


@pytest.mark.parametrize(
    ("module", "extra"),
    [("prefect.flows", "pipeline"), ("yaml", "pipeline"), ("face_alignment", "pipeline"), ("sklearn.metrics", "train")],
)
def test_a_missing_package_names_the_extra_that_brings_it(module: str, extra: str) -> None:
    error = missing_package(ModuleNotFoundError(module, name=module))
    assert f"without the package {module.partition('.')[0]}, expected the extra '{extra}'; pip install" in str(error)


def test_a_package_of_no_extra_is_brought_by_all() -> None:
    assert "expected the extra 'all'" in str(missing_package(ModuleNotFoundError("nothing", name="nothing")))
