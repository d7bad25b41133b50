# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernel tree in build/linux, and how it and the repository say the same.
#
# The tree is a git repository. Tag base is Debian's source, branch series has
# a commit a step above it, tag applied is where the repository's series ended
# when it was applied last: work above it is somebody's and is never dropped.
#
# In the repository a step is a patch: message and edits to existing files. Its
# "Adds:" lines name the new files, which are kept as they are: those of rxe in
# rxe-odp, the others below kernel-patches at their kernel path.

top=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
build=$(readlink -m "${BUILD:-$top/build}")
readonly series_version=6.12
readonly series=$top/kernel-patches/series
readonly rxe=drivers/infiniband/sw/rxe

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

git_tree()
{
	git -C "$build/linux" -c core.compression=0 -c gc.auto=0 -c advice.detachedHead=false \
		-c core.abbrev=12 -c core.hooksPath=/dev/null \
		-c user.name="$(git -C "$top" config user.name || echo nobody)" \
		-c user.email="$(git -C "$top" config user.email || echo nobody@localhost)" "$@"
}

lock_tree()
{
	mkdir -p "$build"
	exec 9> "$build/.linux.lock"
	flock -n 9 || { echo 'waiting for another build to end'; flock 9; }
}

# The package's version, which is what decides if the source is unpacked again.
source_version()
{
	dpkg-query -W -f '${Version}' "linux-source-$series_version" 2> /dev/null ||
		die "no kernel source: apt-get install linux-source-$series_version (or run make deps)"
}

unpack_source()
{
	local version new=$build/linux.new
	local tarball=/usr/src/linux-source-$series_version.tar.xz

	version=$(source_version)
	if [ -d "$build/linux" ]; then
		[ "$(cat "$build/linux.version" 2> /dev/null)" = "$version" ] && return
		check_unchanged
	fi
	[ -r "$tarball" ] || die "no $tarball: apt-get install --reinstall linux-source-$series_version"
	echo "unpacking linux-source-$series_version $version"
	rm -rf "$new" "$build/linux" "$build/linux.version"
	mkdir -p "$new"
	tar -xf "$tarball" --strip-components=1 -C "$new"
	make_base "$new" "linux-source-$series_version $version"
	mv "$new" "$build/linux"
	echo "$version" > "$build/linux.version"
}

# $1: an unpacked source, which becomes a repository; $2: what it is
make_base()
{
	git -C "$1" init -q -b series
	git -C "$1" -c core.compression=0 add -Af .
	git -C "$1" -c gc.auto=0 -c user.name=Debian -c user.email=debian@localhost \
		commit -q -m "$2"
	git -C "$1" tag base
	git -C "$1" tag applied
}

# Makes $build/linux a copy of the source $1, with the series on top. A file
# that is the same keeps its date, so that a second build is short.
copy_and_apply()
{
	local copy=$build/linux

	echo "copying $1"
	mkdir -p "$copy"
	rsync -a --delete --exclude=/.git "$1/" "$copy/"
	rm -rf "$copy/.git" "$build/linux.series"
	make_base "$copy" "$1"
	apply_series
}

# Stop rather than lose edits or commits that the repository does not have.
check_unchanged()
{
	local head

	if [ -n "$(git_tree status --porcelain --untracked-files=no)" ]; then
		die "$build/linux has edits: kernel-patches/refresh brings them into the repository," \
			'--dirty builds them as they are, and git checkout -f drops them'
	fi
	head=$(git_tree rev-parse -q --verify series)
	if [ "$(git_tree rev-parse "$head^{tree}")" != "$(git_tree rev-parse 'applied^{tree}')" ]; then
		die "$build/linux has commits of its own: kernel-patches/refresh brings them into the" \
			"repository, git -C $build/linux checkout -B series applied drops them"
	fi
}

repo_path()
{
	case $1 in
	"$rxe"/*) echo "rxe-odp/${1##*/}" ;;
	*) echo "kernel-patches/$1" ;;
	esac
}

steps()
{
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$series"
}

added_by()
{
	sed -n -e '/^---$/q' -e 's/^Adds: //p' "$1"
}

series_hash()
{
	local step file

	{
		git_tree rev-parse base
		while read -r step; do
			cat "$top/$step"
			while read -r file; do
				cat "$top/$(repo_path "$file")"
			done < <(added_by "$top/$step")
		done < <(steps)
	} 2> /dev/null | sha256sum
}

header()
{
	sed -n "/^\$/q; s/^$1: //p" "$2"
}

# One step on top of commit $2, without touching the work tree; prints the commit.
commit_step()
{
	local step=$top/$1 file from
	local index=$build/linux.index

	GIT_INDEX_FILE=$index git_tree read-tree "$2"
	if grep -q '^diff --git ' "$step"; then
		sed -n '/^---$/,$p' "$step" |
			GIT_INDEX_FILE=$index git_tree apply --cached --whitespace=nowarn - ||
			die "$1 does not apply to $(git_tree log -1 --format=%s base);" \
				"the series is for $series_version.117 and later: apt-get install linux-source-$series_version"
	fi
	while read -r file; do
		[ -r "$top/$(repo_path "$file")" ] || die "$1 adds $file, but there is no $(repo_path "$file")"
		GIT_INDEX_FILE=$index git_tree update-index --add --cacheinfo \
			"100644,$(git_tree hash-object -w "$top/$(repo_path "$file")"),$file"
	done < <(added_by "$step")
	from=$(header From "$step")
	{ header Subject "$step" | sed 's/^\[PATCH\] //'; echo
	  sed -e '1,/^$/d' -e '/^---$/,$d' -e '/^Adds: /d' "$step"; } |
		GIT_AUTHOR_NAME=${from% <*} GIT_AUTHOR_EMAIL=$(expr "$from" : '.*<\(.*\)>') \
		GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' \
		git_tree commit-tree -p "$2" "$(GIT_INDEX_FILE=$index git_tree write-tree)" -F -
	rm -f "$index"
}

apply_series()
{
	local hash step head

	hash=$(series_hash)
	if [ "$(cat "$build/linux.series" 2> /dev/null)" = "$hash" ]; then
		return
	fi
	check_unchanged
	head=$(git_tree rev-parse base)
	while read -r step; do
		echo "  $step"
		head=$(commit_step "$step" "$head") || exit
	done < <(steps)
	# Only the files that differ are written, so that a build stays short.
	git_tree checkout -q -B series "$head"
	git_tree tag -f applied "$head" > /dev/null
	echo "$hash" > "$build/linux.series"
}
