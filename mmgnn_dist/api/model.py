"""A trained model in Python: `mmgnn_dist.load(RUN)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mmgnn_dist.api.molecules import sources_of
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import read_export

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def load(where: str | Path) -> Model:
    """Open a trained model.

    Args:
        where: run directory of `mmgnn train`, or a folder made by `mmgnn export`.

    Raises:
        UserError: there is no trained model.
    """
    return Model(Path(where))


class Model:
    """A trained model, for molecules that need no labels.

    Attributes:
        path: its folder.
        units: unit of each target; "" for a class.
        card: what its export records: targets, backbone, encoder, training data.
    """

    def __init__(self, path: Path) -> None:
        open_bundle(path, [])  # says what is wrong with the folder
        self.path = path
        self.card = read_export(RunDir(path))
        self.units: dict[str, str] = dict(self.card["units"])

    @property
    def targets(self) -> list[str]:
        """Names of the targets."""
        return list(self.units)

    def predict(
        self, molecules: Any, text: Mapping[str, Sequence[Any]] | None = None, overrides: Sequence[str] = ()
    ) -> pa.Table:
        """Predict the targets of some molecules.

        Args:
            molecules: one or many SMILES, RDKit molecules, `ase.Atoms`, PyG `Data`, pairs of atomic numbers
                and positions in Å, or files.
            text: text fields of the molecules, such as `{"iupac_name": ["ethanol"]}`.
            overrides: `key=value` as of `mmgnn predict`.

        Returns:
            One row for each molecule, in order: `id`, the targets in `units`, `gate` if there is one, and the
            `reason` where there is no prediction. The notes are in the metadata of the schema.

        Raises:
            UserError: as of `mmgnn predict`.
        """
        from mmgnn_dist.predict.molecules import predict_sources

        with TemporaryDirectory(prefix="mmgnn-predict-") as folder:
            sources = sources_of(molecules, text or {}, Path(folder))
            found = predict_sources(self.path, sources, Path(folder), [], list(overrides), quiet=True)
        notes = "\n".join(found.notes)
        return found.table.replace_schema_metadata({"mmgnn.notes": notes})

    def embed(
        self, molecules: Any, text: Mapping[str, Sequence[Any]] | None = None, overrides: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Return the vectors of some molecules, float32 [n, H] by name; NaN where there is no prediction.

        `graph` is the output of the backbone and `fused` the input of the read-out, means over the atoms.

        Args:
            molecules: as of `predict`.
            text: as of `predict`.
            overrides: as of `predict`.
        """
        import numpy as np

        from mmgnn_dist.predict.molecules import predict_sources

        with TemporaryDirectory(prefix="mmgnn-embed-") as folder:
            sources = sources_of(molecules, text or {}, Path(folder))
            found = predict_sources(self.path, sources, Path(folder), [], list(overrides), True, vectors=True)
        rows, vectors = found.rows.kept, {}
        for name, values in found.predictions.vectors.items():
            vectors[name] = np.full((len(rows), values.shape[1]), np.nan, np.float32)
            vectors[name][rows >= 0] = values
        return vectors
