"""The loop and the values that flow through it: no torch, no pettingzoo, nothing of ours imported from elsewhere."""
