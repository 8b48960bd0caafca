"""What Caffe can compute with is asked before Caffe would abort."""

import pytest

from pysrn.console import UsageError
from pysrn.nets import in_caffe as device

caffe = pytest.importorskip("caffe")
with_engine = pytest.mark.skipif(not hasattr(caffe, "engine_parts"), reason="this Caffe has no speed patches")


@pytest.fixture(autouse=True)
def asked_anew():
    device.engine_in_use.cache_clear()
    yield
    device.engine_in_use.cache_clear()


@with_engine
@pytest.mark.parametrize(("named", "said"), [("quick", "no part 'quick'"), ("stock,grouped", "no part 'stock'")])
def test_a_wrong_engine_is_a_mistake_of_the_user(named, said, monkeypatch):
    monkeypatch.setenv(device.ENGINE, named)
    with pytest.raises(UsageError, match=f"^CAFFE_ENGINE={named}: .*{said}") as caught:
        device.engine_in_use()
    assert caught.value.cure == "leave CAFFE_ENGINE out"


def test_the_engine_in_use_is_what_caffe_says():
    assert device.engine_in_use() == tuple(getattr(caffe, "engine_parts", tuple)())
