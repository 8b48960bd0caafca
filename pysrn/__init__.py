"""SRN (Zhu et al., CVPR 2017) on real Caffe: nets, data, four training stages, evaluation, PyTorch weights."""

__version__ = "0.1.0"
