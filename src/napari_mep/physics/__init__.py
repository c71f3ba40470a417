"""What the microscope does to a specimen: optics, probe, multislice, scan and counting noise."""
