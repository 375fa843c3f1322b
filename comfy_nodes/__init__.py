"""ComfyUI nodes on lmbridge. Only :mod:`comfy_nodes._host` touches ComfyUI."""
