"""`fusednorm tune`: times all plans of norms on the GPU here, and keeps the fastest."""
