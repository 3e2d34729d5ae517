"""The choices that this package offers: Hydra finds the files beside this one."""
