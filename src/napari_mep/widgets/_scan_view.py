"""Looking at a scan: sample, images, detector and cursor, kept in step with the calibration."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._scan_board import ScanBoard
from napari_mep.widgets._scan_handles import ScanHandles
from napari_mep.widgets._scan_look import Images, Ring, Sample, images_of, pattern_at, sample_of
from napari_mep.widgets._scan_places import mrad_per_px
from napari_mep.widgets._scan_state import ScanState
from napari_mep.widgets._scan_view_bar import ScanViewBar
from napari_mep.widgets._watched import WatchedCall

__all__ = ["ScanView"]

_REST_MS = 60  # a circle that is dragged asks for an image that often at most


class ScanView(QObject):
    """Joins the board, the handles and the bar; everything that takes long runs in threads.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        The viewer.

    Attributes
    ----------
    sampled : Signal(Sample)
        The patterns that are looked at have been read.
    computed : Signal(Images)
        New images are shown.
    failed : Signal(str)
        What went wrong, one line; empty once it works again.
    """

    sampled = Signal(object)
    computed = Signal(object)
    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.board = ScanBoard(viewer, self)
        self.handles = ScanHandles(viewer, self.board, self)
        self.bar = ScanViewBar()
        self.reading, self.imaging = WatchedCall(self), WatchedCall(self)
        self._pointing = BackgroundCall(self)
        self._state: ScanState | None = None
        self._sample: Sample | None = None
        self._asked: tuple[Any, ...] = ()
        self._wanted: tuple[int, int] | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._compute)
        self._connect()

    @property
    def sample(self) -> Sample | None:
        """Patterns that are looked at, None until they are read."""
        return self._sample

    @property
    def busy(self) -> bool:
        """Whether something is being read or computed."""
        return (
            self.reading.busy
            or self.imaging.busy
            or self._pointing.busy
            or self._rest.isActive()
            or self._wanted is not None
        )

    def show_scan(self, state: ScanState | None) -> None:
        """Look at another scan, or at none."""
        if self._state is not None:
            self._state.changed.disconnect(self._on_state)
        self.reading.cancel()
        self.imaging.cancel()
        self._pointing.cancel()
        self._wanted = None
        self._rest.stop()
        self._state, self._sample, self._asked = state, None, ()
        self.board.remove()
        self.bar.setEnabled(False)
        if state is not None:
            state.changed.connect(self._on_state)
            self.reading.submit(partial(sample_of, state.opened()))

    def set_ring(self, ring: Ring) -> None:
        """Another virtual detector; its image follows."""
        if self._sample is not None:
            self.board.set_ring(ring)
            self.bar.show_ring(ring)
            if not self._rest.isActive():
                self._rest.start()

    def set_cursor(self, row: int, column: int) -> None:
        """Another scan position; its pattern follows."""
        if self._state is None or self._sample is None:
            return
        self.board.set_cursor(row, column)
        self.bar.words.setText(_cursor_words(self.board, row, column))
        self._wanted = (row, column)
        if not self._pointing.busy:
            self._read_pattern()

    def use_all(self) -> None:
        """Compute the images from every pattern of a large scan."""
        if self._state is not None and self._sample is not None:
            self._submit(self._state.opened().patterns, (1, 1))
            self.bar.whole.setVisible(False)

    def cancel(self) -> None:
        """Stop what takes long."""
        self.reading.cancel()
        self.imaging.cancel()

    def close_down(self) -> None:
        """Let go of everything; the layers stay."""
        self._rest.stop()
        self.handles.close_down()
        self._pointing.cancel()
        for call in (self.reading, self.imaging):
            call.close_down()
        if self._state is not None:
            self._state.changed.disconnect(self._on_state)
            self._state = None

    def _connect(self) -> None:
        self.reading.succeeded.connect(self._on_sample)
        self.reading.failed.connect(self.failed)
        self.imaging.succeeded.connect(self._on_images)
        self.imaging.failed.connect(self.failed)
        self._pointing.succeeded.connect(self._on_pattern)
        self._pointing.failed.connect(self.failed)
        self.handles.ring_dragged.connect(self.set_ring)
        self.handles.cursor_moved.connect(self.set_cursor)
        self.bar.ring_changed.connect(self.set_ring)
        self.bar.images_chosen.connect(self.board.choose)
        self.bar.scale_chosen.connect(self.board.set_scale)
        self.bar.whole_wanted.connect(self.use_all)

    def _on_sample(self, sample: Sample) -> None:
        assert self._state is not None
        self._sample = sample
        self.board.ring = sample.disk
        self.board.show(self._state, sample)
        ky, kx = sample.mean.shape
        self.bar.set_scan(sample.disk, (ky, kx), sample.whole)
        self.bar.set_unit(mrad_per_px(self._state))
        self.bar.show_ring(sample.disk)
        self.failed.emit("")
        self.sampled.emit(sample)
        self._compute()
        self.set_cursor(*self.board.cursor)

    def _on_state(self) -> None:
        """Steps may have changed, and with them places, units and the axes of deflections."""
        if self._state is None or self._sample is None:
            return
        asked = self._settings()
        if asked != self._asked:
            self.board.refresh()
            self.bar.set_unit(mrad_per_px(self._state))
            self._rest.start()

    def _settings(self) -> tuple[Any, ...]:
        assert self._state is not None
        values, plan = dict(self._state.calibration.values), self._state.plan
        return (values, plan.bad_pixels_file, plan.descan_px)

    def _compute(self) -> None:
        if self._state is not None and self._sample is not None:
            self._submit(self._sample.patterns, self._sample.every)

    def _submit(self, patterns: Any, every: tuple[int, int]) -> None:
        assert self._state is not None
        assert self._sample is not None
        self._asked = self._settings()
        self.imaging.submit(
            partial(
                images_of,
                patterns,
                every,
                self.board.ring,
                self._sample.disk,
                dict(self._state.calibration.values),
                self._state.plan,
                mrad_per_px(self._state),
            )
        )

    def _on_images(self, images: Images) -> None:
        self.board.show_images(images)
        self.failed.emit("")
        self.computed.emit(images)

    def _read_pattern(self) -> None:
        if self._state is not None and self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self._pointing.submit(partial(pattern_at, self._state.original, *wanted))

    def _on_pattern(self, pattern: Any) -> None:
        self.board.show_pattern(pattern)
        self._read_pattern()  # the cursor may have moved on meanwhile


def _cursor_words(board: ScanBoard, row: int, column: int) -> str:
    y, x = board.scan_place().world((float(row), float(column)))
    words = f"Cursor: row {row}, column {column}"
    return f"{words} at y {y:.1f} Å, x {x:.1f} Å" if board.unit == "angstrom" else words
