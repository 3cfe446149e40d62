"""Files and tables in, studies out: readers, cleaning, measuring, statements, cohorts, the prepared folder."""
