"""The LMDB pair of a split: images and label vectors under the same keys, in the same shuffled order.

In a folder: `<split>_image.lmdb` holds Caffe Datums of 256 x 256 x 3 BGR pixels (JPEG-encoded or raw),
`<split>_label.lmdb` Datums of C x 1 x 1 floats (1 = has it, -1 = has it not, 0 = unspecified). Keys are
`%08d_<name>`; the number is the position in the shuffled order. `manifest.json` lists the classes and the
splits that are complete, `skipped.csv` (split, file, reason) the images that were left out.
"""

from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_file import pair_paths
from pysrn.data.pair.pair_reader import PairReader
from pysrn.data.pair.pair_writer import write_pair

__all__ = ["Encoding", "PairReader", "pair_paths", "write_pair"]
