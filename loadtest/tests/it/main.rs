//! Black box: the binary on its command line, against small servers.
