// SPDX-License-Identifier: GPL-3.0-or-later
// libgit2's options are set through a function with variable arguments, which Swift cannot call.
#include "cshims.h"

int ks_git_configure(void)
{
    // git itself has judged the owner of the repository (safe.directory) before libgit2 sees it.
    int status = git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    if (status < 0)
        return status;
    // Only says where git looks for configuration, which is always read with the git program.
    const char *extensions[] = {"worktreeconfig"};
    return git_libgit2_opts(GIT_OPT_SET_EXTENSIONS, extensions, (size_t)1);
}
