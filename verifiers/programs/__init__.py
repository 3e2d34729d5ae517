"""Small programs for ``verifier=external``; each runs by itself and imports nothing of ours."""
