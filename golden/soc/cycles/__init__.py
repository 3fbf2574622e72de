"""Every cycle of a list of jobs, without their data: who waits for whom."""
