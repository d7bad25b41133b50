# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The unpacked kernel in $BUILD/linux, a git repository:
#
#   base             tag: the pristine source; its message is the version
#   series           branch: one commit a step, checked out
#   series-applied   tag: what the last build or refresh found the same in the
#                    repository; its message is the id of that series
#
# Commits after series-applied and changes in the work tree are somebody's work,
# which kernel-patches/refresh brings into the repository.  Nothing here drops it.

tag()
{
	GIT_COMMITTER_NAME=kernel-patches GIT_COMMITTER_EMAIL='' GIT_COMMITTER_DATE=$DATE \
		kgit tag -f -a -m "$2" "$1" "$3" > /dev/null
}

# The package's version, or what a source given by hand is known by
source_version()
{
	if [ -n "${LINUX_SOURCE:-}" ]; then
		echo "${tarball##*/} $(stat -c '%s %Y' "$tarball")"
	else
		dpkg-query -W -f '${Version}' linux-source-6.12
	fi
}

unpack_tarball()
{
	say "unpacking $tarball"
	rm -rf "$1"
	mkdir "$1"
	tar -xf "$tarball" -C "$1" --strip-components=1 ||
		die "$tarball cannot be unpacked; the message is above"
}

# Commits all of DIRECTORY to the repository GIT_DIR; prints the commit
import_base()
{
	local directory=$1
	local -x GIT_DIR=$2 GIT_WORK_TREE=$directory GIT_INDEX_FILE=$scratch/base-index

	git -C "$directory" add -A -f .
	GIT_AUTHOR_NAME=kernel-patches GIT_AUTHOR_EMAIL='' GIT_AUTHOR_DATE=$DATE \
	GIT_COMMITTER_NAME=kernel-patches GIT_COMMITTER_EMAIL='' GIT_COMMITTER_DATE=$DATE \
		git commit-tree -m "linux-source-6.12 $3" "$(git write-tree)"
}

# Unpacked beside its place and renamed at the end: what is there is whole.
unpack_first()
{
	local version=$1 new=$BUILD/linux.new place=$linux commit

	unpack_tarball "$new"
	say 'committing it as base'
	git init -q -b series "$new"
	git -C "$new" config core.compression 0
	git -C "$new" config gc.auto 0
	commit=$(import_base "$new" "$new/.git" "$version")
	mv "$scratch/base-index" "$new/.git/index"
	linux=$new
	kgit update-ref refs/heads/series "$commit"
	tag base "$version" "$commit"
	tag series-applied none "$commit"
	kgit update-index -q --refresh || :
	linux=$place
	# The files are as old as the package: make would take objects of edited
	# files for newer ones.
	rm -rf "$BUILD"/obj "$BUILD"/obj-*
	mv "$new" "$linux"
}

# Another version becomes another base in the same repository: branches stay, and
# the checkout that follows touches only what differs.
unpack_again()
{
	local version=$1 new=$BUILD/linux.new commit

	say "the source package is now $version, it was $(base_version)"
	unpack_tarball "$new"
	commit=$(import_base "$new" "$linux/.git" "$version")
	tag base "$version" "$commit"
	rm -rf "$new"
}

prepare_base()
{
	local version

	tarball=${LINUX_SOURCE:-/usr/src/linux-source-6.12.tar.xz}
	[ -r "$tarball" ] ||
		die "$tarball is missing: it is the kernel that the series applies to" \
		    'apt-get install linux-source-6.12'
	version=$(source_version)
	if [ ! -e "$linux" ]; then
		unpack_first "$version"
	else
		[ -n "$(base_version 2> /dev/null)" ] ||
			die "$(short "$linux") is there, but kernel-patches/build did not make it" \
			    'Move it away and run this again.'
		if [ "$(base_version)" != "$version" ]; then unpack_again "$version"; fi
	fi
}

# The marker tells our own half-done checkout from somebody's edits: a line for
# each commit that files may be at.
switching()
{
	echo "$linux/.git/kernel-patches-switching"
}

# Checks the branch out again, after a stock build or an interrupted checkout.
restore_branch()
{
	local marker path blob commit known

	marker=$(switching)
	if [ ! -e "$marker" ]; then return; fi
	while IFS= read -r -d '' path; do
		path=${path:3}
		blob=$(kgit hash-object -- "$path" 2> /dev/null) || blob=none
		known=
		while read -r commit; do
			if [ "$(kgit rev-parse -q --verify "$commit:$path" || echo none)" = "$blob" ]; then
				known=yes
			fi
		done < "$marker"
		[ -n "$known" ] ||
			die "$(short "$linux")/$path was edited while the stock kernel was built there" \
			    "Copy it away, git -C $(short "$linux") checkout -f series, and run this again."
	done < <(kgit status --porcelain -z --no-renames)
	kgit checkout -q -f series
	rm "$marker"
}

# switch_to COMMIT CHECKOUT-ARGUMENT...: only files that differ are touched, so
# that make rebuilds only what they are part of
switch_to()
{
	local target=$1

	shift
	{
		kgit rev-parse HEAD 'series^{commit}' "$target"
	} > "$(switching)"
	kgit checkout -q "$@"
}

switch_to_base()
{
	at_exit restore_branch
	switch_to 'base^{commit}' --detach 'base^{commit}'
}

# Is what lies in the work tree exactly COMMIT?
content_is()
{
	local -x GIT_INDEX_FILE=$scratch/content-index

	cp "$linux/.git/index" "$GIT_INDEX_FILE"
	kgit read-tree --reset "$1"
	[ -z "$(kgit ls-files -o --exclude-standard)" ] && kgit diff --quiet
}

applied_commit()
{
	kgit rev-parse -q --verify 'series-applied^{commit}'
}

applied_id()
{
	kgit for-each-ref --format='%(contents:subject)' refs/tags/series-applied
}

require_series_branch()
{
	[ "$(kgit symbolic-ref -q HEAD || :)" = refs/heads/series ] ||
		die "$(short "$linux") does not have its branch series checked out" \
		    "End a rebase or merge that is under way, or: git -C $(short "$linux") checkout series" \
		    'To build what is there as it is: kernel-patches/build --dirty'
}

refuse_to_drop_work()
{
	local lines

	mapfile -t lines < <(
		kgit log --format='commit %h %s' 'series-applied^{commit}..HEAD'
		kgit status --short | head -n 20
	)
	die "$(short "$linux") has work that the repository does not have:" "${lines[@]}" '' \
	    'kernel-patches/refresh brings it into the repository;' \
	    'kernel-patches/build --dirty (make kernel DIRTY=1) builds it as it is;' \
	    "git -C $(short "$linux") reset --hard series-applied drops it."
}

# Brings the work tree to what the repository says.  Sets $as_is where it already
# has that content, but in commits of its own, which are left alone.
apply_to_tree()
{
	local id head changes

	restore_branch
	require_series_branch
	as_is=
	id=$(series_id)
	head=$(kgit rev-parse HEAD)
	changes=$(kgit status --porcelain)
	if [ -z "$changes" ] && [ "$head" = "$(applied_commit)" ] && [ "$id" = "$(applied_id)" ]; then
		return
	fi

	apply_series
	if [ "$head" != "$(applied_commit)" ] && [ "$head" != "$tip" ]; then
		content_is "$tip" || refuse_to_drop_work
		as_is=yes
	elif [ -z "$changes" ]; then
		say "applying the series to $(base_version): $(kgit rev-list --count "base..$tip") steps"
		switch_to "$tip" -B series "$tip"
		rm "$(switching)"
	else
		content_is "$tip" || refuse_to_drop_work
		kgit reset -q "$tip"
	fi
	if [ -z "$as_is" ]; then tag series-applied "$id" "$tip"; fi
}
