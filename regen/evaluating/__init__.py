"""`regen eval`: what each of its commands runs. Numbers are made in regen.eval; here bundles are run and files read and written."""
