"""Run by a Python with other tools, without this package: `other_tools.py FOLDER` scores the views of a folder.

Reads views.npy, deploy.prototxt, weights.caffemodel and net.onnx; writes `<tool>.npz`, each with the four scores.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import openvino

SCORES = ["score_cls", "score_att", "score_sr", "score"]
LAYERS = {"score_cls": "cls_fc", "score_sr": "sr_fc"}  # OpenCV asks for blobs of Caffe's nets by layer


def main(folder: Path) -> None:
    """Score with each tool, two images at a time."""
    views = np.load(folder / "views.npy")
    pairs = [views[i : i + 2] for i in range(0, len(views), 2)]
    onnx = str(folder / "net.onnx")
    caffe_in_opencv = cv2.dnn.readNetFromCaffe(str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"))
    onnx_in_opencv = cv2.dnn.readNetFromONNX(onnx)
    for net in (caffe_in_opencv, onnx_in_opencv):
        net.enableWinograd(False)  # its own, less exact way of 3 x 3 convolutions: up to 1.1e-5 apart with it
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    # OpenVINO may choose a lower precision by itself on processors that have it.
    compiled = openvino.Core().compile_model(onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def in_opencv(net, names):
        def scores(images):
            net.setInput(images)
            return [blob.copy() for blob in net.forward(names)]

        return scores

    tools = {
        "opencv-caffe": in_opencv(caffe_in_opencv, [LAYERS.get(name, name) for name in SCORES]),
        "opencv-onnx": in_opencv(onnx_in_opencv, SCORES),
        "onnxruntime": lambda images: session.run(SCORES, {"images": images}),
        "openvino": lambda images: [compiled([images])[name] for name in SCORES],
    }
    for tool, scores in tools.items():
        parts = zip(*(scores(pair) for pair in pairs), strict=True)
        np.savez(folder / f"{tool}.npz", **dict(zip(SCORES, map(np.concatenate, parts), strict=True)))
    print(cv2.__version__, onnxruntime.__version__, openvino.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
