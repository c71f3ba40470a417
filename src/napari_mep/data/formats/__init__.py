"""One module for each file format: what it holds, and what it knows about the calibration.

Each ``open_...`` function takes (path, inner path or None, scan shape or None) and returns
`OpenedPatterns` whose patterns stay on disk. Calibration values of the file get the source "file".
"""
