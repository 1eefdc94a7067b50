// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Shadow variables: fields that patches attach to objects from outside (ksplice.h). A hash table leads from object and
 * id to the variable; readers need RCU alone, writers one lock that is never held for longer than a few list
 * operations. That lock is a raw one, because attaching is allowed wherever @gfp is.
 *
 * An id exists while an applied update declares it. Without such an update nobody detaches the variables of objects
 * that die, and a later object at the same address would find them: so they go when the last one is undone. Holding
 * and dropping ids is done under ksplice_mutex, by attempts and undos.
 */
#include <linux/hash.h>
#include <linux/hashtable.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "internal.h"
#include "ksplice.h"

/* An id that applied updates declare. */
struct shadow_id {
	struct hlist_node node;
	unsigned long id;
	struct list_head uses;		/* struct ksplice_shadow_use, the newest first; empty: on its way out */
	struct list_head variables;
};

struct variable {
	struct hlist_node node;		/* readers: RCU */
	struct list_head list;		/* of its id */
	struct rcu_head rcu;
	const void *object;
	unsigned long id;
	u8 content[] __aligned(ARCH_KMALLOC_MINALIGN);
};

static DEFINE_HASHTABLE(variables, 12);
static DEFINE_HASHTABLE(ids, 6);
static DEFINE_RAW_SPINLOCK(lock);	/* both tables and all that hangs on them */

static unsigned long key_of(const void *object, unsigned long id)
{
	return (unsigned long)object ^ hash_long(id, BITS_PER_LONG);
}

static struct shadow_id *find_id(unsigned long id)
{
	struct shadow_id *found;

	hash_for_each_possible(ids, found, node, id)
		if (found->id == id)
			return found;
	return NULL;
}

/* The caller is a reader of RCU or holds the lock. */
static struct variable *find_variable(const void *object, unsigned long id)
{
	struct variable *found;

	hash_for_each_possible_rcu(variables, found, node, key_of(object, id), lockdep_is_held(&lock))
		if (found->object == object && found->id == id)
			return found;
	return NULL;
}

/* The caller holds the lock. */
static void unlink_variable(struct variable *variable)
{
	hash_del_rcu(&variable->node);
	list_del(&variable->list);
}

void *ksplice_shadow_get(const void *object, unsigned long id)
{
	struct variable *found;

	rcu_read_lock();
	found = find_variable(object, id);
	rcu_read_unlock();
	return found ? found->content : NULL;
}

/* Returns the variable that is there in the end; @mine says whether it is the new one. */
static void *attach(const void *object, unsigned long id, size_t size, const void *initial, gfp_t gfp, bool *mine)
{
	struct variable *found = NULL, *new;
	struct shadow_id *owner;
	unsigned long flags;

	*mine = false;
	if (size > KMALLOC_MAX_SIZE - sizeof(*new))
		return NULL;
	new = kzalloc(sizeof(*new) + size, gfp);
	if (!new)
		return NULL;
	new->object = object;
	new->id = id;
	if (initial)
		memcpy(new->content, initial, size);
	raw_spin_lock_irqsave(&lock, flags);
	owner = find_id(id);
	if (owner && !list_empty(&owner->uses)) {
		found = find_variable(object, id);
		if (!found) {
			hash_add_rcu(variables, &new->node, key_of(object, id));
			list_add(&new->list, &owner->variables);
			found = new;
			*mine = true;
		}
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	if (!*mine)
		kfree(new);
	return found ? found->content : NULL;
}

void *ksplice_shadow_attach(const void *object, unsigned long id, size_t size, const void *initial, gfp_t gfp)
{
	bool mine;
	void *content = attach(object, id, size, initial, gfp, &mine);

	return mine ? content : NULL;
}

void *ksplice_shadow_get_or_attach(const void *object, unsigned long id, size_t size, const void *initial, gfp_t gfp)
{
	void *content = ksplice_shadow_get(object, id);
	bool mine;

	return content ? content : attach(object, id, size, initial, gfp, &mine);
}

void ksplice_shadow_detach(const void *object, unsigned long id)
{
	struct variable *found;
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	found = find_variable(object, id);
	if (found)
		unlink_variable(found);
	raw_spin_unlock_irqrestore(&lock, flags);
	if (found)
		kfree_rcu(found, rcu);
}

typedef void (*release_t)(const void *object, void *variable);

/* Takes one variable out; NULL if there is none left. */
static struct variable *take_one(struct shadow_id *owner)
{
	struct variable *found;
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	found = list_first_entry_or_null(&owner->variables, struct variable, list);
	if (found)
		unlink_variable(found);
	raw_spin_unlock_irqrestore(&lock, flags);
	return found;
}

static void empty(struct shadow_id *owner, release_t release)
{
	struct variable *found;

	while ((found = take_one(owner))) {
		if (release)
			release(found->object, found->content);
		kfree_rcu(found, rcu);
		cond_resched();
	}
}

/* For hooks, which run under ksplice_mutex: no update that declares the id can go meanwhile. */
void ksplice_shadow_detach_all(unsigned long id)
{
	struct ksplice_shadow_use *use = NULL;
	struct shadow_id *owner;
	unsigned long flags;

	lockdep_assert_held(&ksplice_mutex);
	raw_spin_lock_irqsave(&lock, flags);
	owner = find_id(id);
	if (owner)
		use = list_first_entry_or_null(&owner->uses, struct ksplice_shadow_use, list);
	raw_spin_unlock_irqrestore(&lock, flags);
	if (use)
		empty(owner, (release_t)(unsigned long)use->shadow->release);
}

static int hold(struct ksplice_shadow_use *use)
{
	struct shadow_id *new = kzalloc(sizeof(*new), GFP_KERNEL);
	struct shadow_id *owner;

	if (!new)
		return -ENOMEM;
	new->id = use->shadow->id;
	INIT_LIST_HEAD(&new->uses);
	INIT_LIST_HEAD(&new->variables);
	raw_spin_lock_irq(&lock);
	owner = find_id(new->id);
	if (!owner) {
		owner = new;
		hash_add(ids, &new->node, new->id);
	}
	list_add(&use->list, &owner->uses);
	raw_spin_unlock_irq(&lock);
	use->owner = owner;
	if (owner != new)
		kfree(new);
	return 0;
}

/* From the list of uses, nothing is attached under the id any more; then what is there goes. */
static void drop(struct ksplice_shadow_use *use)
{
	struct shadow_id *owner = use->owner;
	bool last;

	raw_spin_lock_irq(&lock);
	list_del(&use->list);
	last = list_empty(&owner->uses);
	raw_spin_unlock_irq(&lock);
	use->owner = NULL;
	if (!last)
		return;
	empty(owner, (release_t)(unsigned long)use->shadow->release);
	raw_spin_lock_irq(&lock);
	hash_del(&owner->node);
	raw_spin_unlock_irq(&lock);
	kfree(owner);
}

/* All ids of an update that is about to be applied, or none. */
int ksplice_shadow_hold(struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->shadow_count; i++) {
		record->uses[i].shadow = &record->update->shadows[i];
		if (hold(&record->uses[i])) {
			while (i--)
				drop(&record->uses[i]);
			return -ENOMEM;
		}
	}
	return 0;
}

void ksplice_shadow_drop(struct ksplice_record *record)
{
	unsigned int i = record->update->table->shadow_count;

	while (i--)
		drop(&record->uses[i]);
}
