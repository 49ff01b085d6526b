//! Awaiting several futures at the same time.
//!
//! Not here: what they ask of the store.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Awaits all of these at the same time; results in the order of the futures,
/// or the first error.
pub(crate) async fn join_all<'a, T, E>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, E>> + Send + 'a>,
) -> Result<Vec<T>, E> {
    enum Slot<'a, T, E> {
        Waiting(Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>),
        Done(T),
    }
    let mut slots: Vec<Slot<'a, T, E>> =
        futures.into_iter().map(|future| Slot::Waiting(Box::pin(future) as _)).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for slot in &mut slots {
            if let Slot::Waiting(future) = slot {
                match future.as_mut().poll(cx) {
                    Poll::Ready(Ok(value)) => *slot = Slot::Done(value),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await?;
    Ok(slots
        .into_iter()
        .filter_map(|slot| match slot {
            Slot::Done(value) => Some(value),
            Slot::Waiting(_) => None,
        })
        .collect())
}
