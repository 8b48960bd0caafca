"""What the files in a stage's folder are called."""

WEIGHTS, TRAIN_LOG, MANIFEST = "weights.caffemodel", "train.log", "manifest.json"
NET, VALIDATION_NET, SOLVER = "net.prototxt", "validation.prototxt", "solver.prototxt"
JOB, BEGUN = "job.json", "begun.json"
