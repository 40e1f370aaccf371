# Prints the files that src/install.order lists, for one version (version.awk).

{ sub(/#.*/, "") }

NF == 0 { next }

version_wanted() {
	if (NF != 1)
		fail("one path, and perhaps a version, are needed")
	print $1
}

END { exit failed }
