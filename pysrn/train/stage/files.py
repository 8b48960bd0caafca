"""What the files in a stage's folder are called."""

WEIGHTS, TRAIN_LOG, MANIFEST = "weights.caffemodel", "train.log", "manifest.json"
NET, VALIDATION_NET, SOLVER = "net.prototxt", "validation.prototxt", "solver.prototxt"
CARRIED = "carried.caffemodel"  # what snapshots hold beside the net's own layers, where its first weights have these
JOB, BEGUN = "job.json", "begun.json"
