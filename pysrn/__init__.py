"""SRN (Zhu et al., CVPR 2017) on real Caffe: nets, data, four training stages, evaluation, PyTorch weights."""

import os

__version__ = "0.1.0"

# OpenCV reads both when it is loaded. A picture of more pixels is refused before memory is set aside for it.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))  # assumed: 268 million, 0.8 GB decoded
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it has to say of broken images is raised or in skipped.csv
