# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The series: how its files are named and read, and how it becomes commits.
#
# A step is a patch file that kernel-patches/series names.  It is a mail: From:,
# Subject:, the message, then after a line `---` a git diff of edits to existing
# kernel files.  Each `Adds: PATH` line at the end of the message names a new
# kernel file, which lies plain in the repository.

root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
BUILD=$(readlink -m "${BUILD:-$root/build}")
linux=$BUILD/linux
readonly root BUILD
export BUILD

readonly RXE=drivers/infiniband/sw/rxe
# Commits are made of the repository's content and nothing else, so that the
# same series gives the same commits on every machine.
readonly DATE='2024-11-17T22:15:08Z'

# A `make kernel DIRTY=1` hands its variables on to every make below it, and git
# hooks hand on their repository.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES CDPATH KBUILD_OUTPUT KCONFIG_CONFIG
# shellcheck disable=SC2046 # a list of names
unset $(git rev-parse --local-env-vars)
# One's own settings (signing, hooks, diff formats) must not change the commits
# and patches.  The clone may be a user's and the build root's.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export LC_ALL=C.UTF-8

say()
{
	printf '%s: %s\n' "${0##*/}" "$*"
}

# die MESSAGE [LINE...]: the lines say what to do next
die()
{
	printf '%s: %s\n' "${0##*/}" "$1" >&2
	shift
	if [ $# -gt 0 ]; then printf '    %s\n' "$@" >&2; fi
	exit 1
}

usage_error()
{
	printf '%s: %s\n\n' "${0##*/}" "$1" >&2
	usage >&2
	exit 2
}

# The path to show: relative where that is shorter
short()
{
	case $1 in
	"$PWD"/*) printf '%s\n' "${1#"$PWD"/}" ;;
	*) printf '%s\n' "$1" ;;
	esac
}

# One place for temporary files, and one for what an end by any means has to
# undo: the functions that at_exit names, last one first.
start()
{
	mkdir -p "$BUILD"
	scratch=$(mktemp -d "$BUILD/.scratch.XXXXXX")
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

at_exit()
{
	exit_functions=("$1" "${exit_functions[@]}")
}

clean_up()
{
	local status=$? function

	trap '' INT TERM HUP
	for function in "${exit_functions[@]}"; do "$function" || :; done
	rm -rf "$scratch"
	exit "$status"
}

exit_functions=()

lock_build()
{
	exec 9> "$BUILD/.kernel.lock"
	if ! flock -n 9; then
		say 'waiting for another build or refresh to end'
		flock 9
	fi
}

kgit()
{
	git -C "$linux" "$@"
}

# Where the repository has the new kernel file PATH
plain_path()
{
	case $1 in
	"$RXE"/*) echo "rxe-odp/${1#"$RXE"/}" ;;
	*) echo "kernel-patches/$1" ;;
	esac
}

series_patches()
{
	if [ -f "$root/kernel-patches/series" ]; then
		sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$root/kernel-patches/series"
	fi
}

# A header of a patch file; a long one may go on in lines that begin with a space.
patch_header()
{
	awk -v name="$1: " '
		/^$/ { exit }
		/^[ \t]/ { if (found) { sub(/^[ \t]+/, ""); value = value " " $0 }; next }
		{ found = index($0, name) == 1 }
		found { value = substr($0, length(name) + 1) }
		END { print value }' "$2"
}

patch_subject()
{
	patch_header Subject "$1" | sed 's/^\[PATCH[^]]*\] *//'
}

patch_body()
{
	awk '/^---$/ { exit } body && !/^Adds: / { print } /^$/ { body = 1 }' "$1"
}

patch_adds()
{
	awk '/^---$/ { exit } /^$/ { body = 1 } body && sub(/^Adds: */, "")' "$1"
}

patch_diff()
{
	sed '1,/^---$/d' "$1"
}

# Every file of the repository that the series is made of
series_files()
{
	local patch path

	while read -r patch; do
		echo "$patch"
		if [ ! -f "$root/$patch" ]; then continue; fi
		while read -r path; do plain_path "$path"; done < <(patch_adds "$root/$patch")
	done < <(series_patches)
}

# Changes when the base or anything of the series does
series_id()
{
	local file

	{
		kgit rev-parse 'base^{commit}'
		series_patches
		while read -r file; do
			[ -f "$root/$file" ] || die "the series needs $file, which does not exist"
			if [ -x "$root/$file" ]; then echo executable; fi
			cat "$root/$file"
		done < <(series_files)
	} | sha256sum | cut -d ' ' -f 1
}

# New code that no step names would be left out in silence.
stray_files()
{
	{
		find "$root/kernel-patches" -mindepth 2 -type f ! -name '.*' -printf 'kernel-patches/%P\n'
		find "$root/kernel-patches" -maxdepth 1 -name '*.patch' -printf 'kernel-patches/%P\n'
		if [ -d "$root/rxe-odp" ]; then
			find "$root/rxe-odp" -type f ! -name '.*' ! -name '*.md' -printf 'rxe-odp/%P\n'
		fi
	} | sort | comm -23 - <(series_files | sort)
}

# commit_step FROM PARENT TREE, the message on standard input
commit_step()
{
	local name=${1%% <*} email=${1##*<}

	email=${email%>*}
	GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email GIT_AUTHOR_DATE=$DATE \
	GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email GIT_COMMITTER_DATE=$DATE \
		kgit commit-tree -p "$2" "$3"
}

add_plain_files()
{
	local patch=$1 path plain mode blob

	while read -r path; do
		plain=$(plain_path "$path")
		[ -f "$root/$plain" ] ||
			die "$patch adds $path, but $plain does not exist"
		[ -z "$(kgit ls-files -- "$path")" ] ||
			die "$patch adds $path, which this kernel has already" \
			    "Make it an edit of that file, or choose another name."
		mode=100644
		if [ -x "$root/$plain" ]; then mode=100755; fi
		blob=$(kgit hash-object -w --no-filters -- "$root/$plain")
		kgit update-index --add --cacheinfo "$mode,$blob,$path"
	done < <(patch_adds "$root/$patch")
}

# Prints the hunk that git names as PATH:LINE
show_hunk()
{
	awk -v path="$2" -v line="$3" '
		/^diff --git / { here = index($0, "diff --git a/" path " ") == 1; show = 0 }
		here && /^@@ / { show = index($0, "@@ -" line ",") == 1 || index($0, "@@ -" line " ") == 1 }
		show { print "    | " $0 }' "$1"
}

apply_failed()
{
	local patch=$1 parent=$2 errors=$3 path line

	kgit update-ref refs/heads/series-failed "$parent"
	printf '%s: %s does not apply to linux-source-6.12 %s:\n' "${0##*/}" "$patch" "$(base_version)" >&2
	sed 's/^/    /' <<< "$errors" >&2
	IFS=: read -r path line < <(sed -n 's/^error: patch failed: //p' <<< "$errors") || :
	if [ -n "$path" ]; then show_hunk "$root/$patch" "$path" "$line" >&2; fi
	die 'no fuzz is allowed, because it hides conflicts' \
	    "The file as the steps before leave it:" \
	    "    git -C $(short "$linux") show series-failed:${path:-PATH}" \
	    "Make the hunk of $patch fit it, and run this again."
}

# Commits one step of the series on top of $tip, in the index of our own
apply_step()
{
	local patch=$1 file=$root/$1 from subject errors tree

	[ -f "$file" ] || die "kernel-patches/series names $patch, which does not exist"
	from=$(patch_header From "$file")
	subject=$(patch_subject "$file")
	[[ $from == ?*' <'?*'>' ]] || die "$patch has no line 'From: Name <mail>'"
	[ -n "$subject" ] || die "$patch has no line 'Subject: [PATCH] ...'"
	grep -q '^---$' "$file" || die "$patch has no line '---' between message and diff"
	if patch_diff "$file" | grep -q '^new file mode'; then
		die "$patch makes a new file in its diff" \
		    'New files are plain in the repository, and an "Adds: PATH" line names them.'
	fi

	add_plain_files "$patch"
	if patch_diff "$file" | grep -q '^diff --git '; then
		errors=$(patch_diff "$file" | kgit apply --cached --whitespace=nowarn - 2>&1) ||
			apply_failed "$patch" "$tip" "$errors"
	fi
	tree=$(kgit write-tree)
	tip=$(printf '%s\n\n%s\n' "$subject" "$(patch_body "$file")" |
		commit_step "$from" "$tip" "$tree")
}

# Sets $tip to the commit that the series gives on top of base.  Work tree, index
# and branches stay as they are.
apply_series()
{
	local patch
	local -x GIT_INDEX_FILE=$scratch/series-index

	tip=$(kgit rev-parse 'base^{commit}')
	kgit read-tree "$tip"
	while read -r patch; do apply_step "$patch"; done < <(series_patches)
}

base_version()
{
	kgit for-each-ref --format='%(contents:subject)' refs/tags/base
}
