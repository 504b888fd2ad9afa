"""One job function a module: typed request in, typed receipt out."""
