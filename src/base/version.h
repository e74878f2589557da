#pragma once

/* The release, and in a package what it was built from: 0.1.0+412.3fa9c1d0. Nodes of one cluster run the same. */
const char *choir_version(void);
