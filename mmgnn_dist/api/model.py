"""A trained model in Python: `mmgnn_dist.load(RUN)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mmgnn_dist.api.molecules import TextFields, sources_of
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.molecules import Predicted, predict_sources
from mmgnn_dist.predict.preparation import Asked
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.application.conformal import COVERED
from mmgnn_dist.train.checkpoint.export import read_export

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def load_model(where: str | Path) -> TrainedModel:
    """Open a trained model.

    Args:
        where: run directory of `mmgnn train`, or a folder made by `mmgnn export`.

    Raises:
        UserError: there is no trained model.
    """
    return TrainedModel(Path(where))


class TrainedModel:
    """A trained model, for molecules that need no labels.

    Attributes:
        path: its folder.
        units: unit of each target; "" for a class.
        card: what its export records: targets, backbone, encoder, training data, calibration.
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
        self,
        molecules: Any,
        text: TextFields | None = None,
        level: float = COVERED,
        overrides: Sequence[str] = (),
    ) -> pa.Table:
        """Predict the targets of some molecules.

        Args:
            molecules: one or many SMILES, RDKit molecules, `ase.Atoms`, PyG `Data`, pairs of atomic numbers
                and positions in Å, or files.
            text: text fields of the molecules, such as `{"iupac_name": ["ethanol"]}`; a word for one
                molecule.
            level: share of molecules that the intervals cover: 0.5, 0.8, 0.9, 0.95 or 0.99.
            overrides: `key=value` as of `mmgnn predict`.

        Returns:
            One row for each molecule, in order: `id`, the targets in `units` with their intervals
            (`<target>_low`, `<target>_high`), `gate` if there is one, `flags`, and the `reason` where there
            is no prediction. Units and notes are in the metadata of the schema, `mmgnn.units` and
            `mmgnn.notes`.

        Raises:
            UserError: as of `mmgnn predict`.
        """
        found = self._predicted(molecules, text, Asked((), overrides, level, quiet=True))
        notes = {"mmgnn.notes": "\n".join(found.notes)}
        return found.table.replace_schema_metadata((found.table.schema.metadata or {}) | notes)

    def embed(
        self, molecules: Any, text: TextFields | None = None, overrides: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Return the vectors of some molecules, float32 [n, H] by name; NaN where there is no prediction.

        `graph` is the output of the backbone and `fused` the input of the read-out, means over the atoms.

        Args:
            molecules: as of `predict`.
            text: as of `predict`.
            overrides: as of `predict`.
        """
        return self._predicted(molecules, text, Asked((), overrides, vectors=True, quiet=True)).vectors

    def _predicted(self, molecules: Any, text: TextFields | None, asked: Asked) -> Predicted:
        with TemporaryDirectory(prefix="mmgnn-predict-") as folder:
            return predict_sources(
                self.path, sources_of(molecules, text or {}, Path(folder)), Path(folder), asked
            )
