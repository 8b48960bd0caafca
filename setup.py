"""The package `pysrn`: spatial regularisation networks. Caffe itself is built by docker/caffe/build.sh."""

from setuptools import find_packages, setup

setup(
    name="pysrn",
    version="0.1.0",
    description="Spatial Regularization Network for multi-label image classification, on BVLC Caffe",
    license="BSD-2-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["pysrn", "pysrn.*"]),
    package_data={
        "pysrn.data": ["class_names/*.txt"],
        "pysrn.data.feed": ["*.json"],
        "pysrn.nets": ["caffe.desc"],
        "pysrn.systems.msrn": ["vectors/*"],
    },
    install_requires=[
        "numpy>=2,<3",  # Caffe's Python module is compiled against the headers of NumPy 2
        "protobuf>=4.22,<8",  # the runtimes that import what Debian 12's protoc 3.21 generates
        "six>=1.16,<2",  # imported by the Python package `caffe`
        "lmdb>=1.4,<4",
        "opencv-python>=4.8,<6",
        "pillow>=10,<14",  # how large a picture is, before it is decoded; matplotlib needs it anyway
        "PyYAML>=6,<7",  # data.yaml of YOLO data sets
        "matplotlib>=3.8,<4",
        "tqdm>=4.66,<5",
        "packaging>=23,<27",
    ],
    extras_require={
        "mpi": ["mpi4py>=4.1,<5", "mpich>=5,<6"],  # several ranks (--ranks); mpich brings mpiexec and the library
        "torch": ["torch>=2.2,<3", "safetensors>=0.4,<1"],
        "onnx": ["onnx>=1.16,<2", "onnxruntime>=1.18,<2"],  # tools/to_torch.py --onnx
        "tensorboard": ["tensorboardX>=2.6,<3"],
        "test": ["pytest>=8,<10", "pytest-xdist>=3.6,<4", "ruff>=0.6,<1", "scikit-learn>=1.4,<2", "scipy>=1.11,<2"],
    },
)
